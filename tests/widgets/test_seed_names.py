"""Names of seeds wherever members are shown; names are texts from outside."""

from types import SimpleNamespace

import numpy as np
from helpers.figures import drawn
from m2n2lab.widgets.html.pictures import seeds_key
from m2n2lab.widgets.members.members import MemberView
from m2n2lab.widgets.views.lineage import SharesView

from m2n2lab import CheckpointSpace, Evolver, store
from m2n2lab.analysis.lineage import Lineage, seed_names
from m2n2lab.analysis.lineage_arrays import shares_data
from m2n2lab.analysis.members import member_page, members_data
from m2n2lab.config.builders import build_evolver, build_task
from m2n2lab.config.settings import Settings
from m2n2lab.viz.theme import LIGHT

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\x1b[31m'


def test_seeds_are_called_by_their_names_everywhere_and_hostile_ones_are_text(tiny, tiny_seeds):
    space = tiny.space(tiny_seeds)
    space.names = (HOSTILE, "maths" * 20_000)
    evolver = Evolver(tiny, space, archive_size=6, rng=1)
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    evolver.run(20)
    members = members_data(evolver.archive, tiny, lineage)
    shown = shares_data(lineage).names
    assert shown == members.seeds
    assert shown[-1] == "outside"
    assert all(len(name) <= 40 and "\x1b" not in name for name in shown)
    view = MemberView(LIGHT, print)
    view.update(member_page(evolver, lineage, 0))
    key, page = seeds_key(np.array([0.5, 0.5, 0.0]), shown, LIGHT), view._text.object
    for html in (key, page):
        assert "&lt;script&gt;" in html
        assert "<script" not in html
        assert "<img src=x" not in html
    assert "the seed &lt;script&gt;" in page
    shares = SharesView(LIGHT)
    shares.update(shares_data(lineage))
    drawn(shares)
    assert set(shares.handles) >= set(shown)


def test_checkpoints_are_called_by_the_part_of_their_path_that_tells_them_apart(models):
    assert CheckpointSpace(models / "a", models / "b").names == ("a", "b")
    space = CheckpointSpace(models / "a", models / "a")
    assert len(space.names) == 2
    plain = CheckpointSpace.__new__(CheckpointSpace)
    for ids, names in (
        (("WizardLM/WizardMath-7B", "THUDM/AgentLM-7B"), ("WizardMath-7B", "AgentLM-7B")),
        (("x/one/model", "x/two/model"), ("one/model", "two/model")),
        (("x/one/model", "y/one/model"), ("x/one/model", "y/one/model")),
    ):
        plain.plan = SimpleNamespace(seeds=[SimpleNamespace(id=id) for id in ids])
        assert plain.names == names


def test_the_specialists_of_digits_are_called_by_what_they_learnt():
    settings = Settings(pretrained=True)
    task = build_task(settings)
    evolver = build_evolver(settings, task)
    assert evolver.space.names == ("digits 0–4", "digits 5–9")
    assert np.array_equal(
        [seed.values for seed in evolver.space.seeds], task.trained_seeds(rng=settings.seed)
    )


def test_a_recorded_search_keeps_the_names_of_its_seeds(tiny, tiny_seeds, tmp_path):
    space = tiny.space(tiny_seeds)
    space.names = ("left", "right")
    Evolver(tiny, space, archive_size=6, rng=1).run(3, store=tmp_path / "runs.db")
    resumed = store.resume(tmp_path / "runs.db", task=tiny)
    assert seed_names(resumed.space) == ("left", "right")
    assert store.told(tmp_path / "runs.db")["seeds"][1]["name"] == "right"
