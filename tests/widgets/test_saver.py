"""Models saved from the page: the child on the bench, a member, the best."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import llama
from helpers.pages import PATIENCE, button, figure, free_port, lab_command, opened, served
from helpers.sessions import wait_for
from m2n2lab.widgets.session.session import Session
from playwright.sync_api import expect
from safetensors.numpy import load_file

from m2n2lab import CheckpointSpace, Evolver, rebuild, tasks


@pytest.fixture
def search(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)


@pytest.fixture
def started(search, tmp_path):
    """Start a session that saves into a folder, which may be none."""
    sessions = []

    def start(output, evolver=search):
        sessions.append(Session(lambda: evolver, output=output))
        sessions[-1].start()
        wait_for(sessions[-1], lambda s: s.phase == "paused" and s.bench is not None)
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()
        assert session.join(PATIENCE)


def saved(session, about=None):
    """Order a model to be saved, and return what is said."""
    before = session.snapshot.note
    session.orders.command("save", about)
    return wait_for(session, lambda s: s.note != before and "aved" in s.note).note


def test_the_child_a_member_and_the_best_are_saved_under_names_of_their_own(
    started, search, tmp_path
):
    session = started(tmp_path / "new" / "models")
    proposal = session.snapshot.bench.proposal
    a, b = proposal.parents
    words = saved(session, proposal)
    assert words == f"Saved as tiny-child-of-{a}-{b}.safetensors in {tmp_path / 'new' / 'models'}."
    member = search.archive.members[1]
    assert f"tiny-member-{member.id}.safetensors" in saved(session, member.id)
    assert "tiny-member-" in saved(session)
    assert len([*(tmp_path / "new" / "models").iterdir()]) == 3
    found = load_file(tmp_path / "new" / "models" / f"tiny-member-{member.id}.safetensors")
    expected = search.space.layout.split(search.space.materialise(member.genome))
    assert all(np.array_equal(found[name], part.numpy()) for name, part in expected.items())


def test_nothing_is_overwritten(started, search, tmp_path):
    session, best = started(tmp_path), search.best.id
    names = [re.search(r"as (\S+) in", saved(session, best))[1] for _ in range(2)]
    assert names == [f"tiny-member-{best}.safetensors", f"tiny-member-{best}-2.safetensors"]
    first, second = (load_file(tmp_path / name) for name in names)
    assert all(np.array_equal(first[name], second[name]) for name in first.keys() | second.keys())


def test_without_a_folder_it_says_how_to_have_one(started):
    session = started(None)
    session.orders.command("save")
    wait_for(session, lambda s: "m2n2lab serve --output DIR" in s.note)


def test_what_cannot_be_saved_is_said(started, search, tmp_path):
    (tmp_path / "file").write_text("")
    session = started(tmp_path / "file" / "models")
    assert saved(session).startswith("Not saved: ")
    session.orders.command("save", 1234)
    wait_for(session, lambda s: "1234 does not live any more" in s.note)
    other = session.snapshot.bench.proposal.edit(mix=0.123)
    session.orders.command("save", other)
    wait_for(session, lambda s: "The bench has changed meanwhile" in s.note)
    assert search.generation == 0


def test_a_checkpoint_is_saved_as_a_model_folder_with_card_and_recipe(started, tmp_path):
    for k, name in enumerate("ab"):
        llama(tmp_path / name, k)
    space = CheckpointSpace(tmp_path / "a", tmp_path / "b")
    even = tasks.from_function(lambda model, at: at % 2 == 0, 6, name="even: ../x")
    session = started(tmp_path / "out", Evolver(even, space, rng=0))
    proposal = session.snapshot.bench.proposal
    words = saved(session, proposal)
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name in words
    assert folder.name.startswith("even-..-x-child-of-")
    assert "on the bench after step 0" in (folder / "README.md").read_text()
    rebuild(folder / "recipe.json", tmp_path / "again")
    name = "model.safetensors"
    assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.slow
def test_a_person_saves_the_child_and_a_member(page, tmp_path):
    port = free_port()
    command = [*lab_command(port), "--output", str(tmp_path / "models")]
    for _ in served(command, port, tmp_path / "log"):
        opened(page, f"http://localhost:{port}/")
        button(page, "Save").click()
        expect(figure(page, "note")).to_contain_text("Saved as digits-child-of-")
        page.get_by_role("tab", name="Members").click()
        button(page, "Save this member").click()
        expect(figure(page, "note")).to_contain_text("Saved as digits-member-")
    assert len(list(Path(tmp_path / "models").glob("*.safetensors"))) == 2
