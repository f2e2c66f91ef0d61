"""Files of an earlier version: runs resume, archives load, recipes rebuild the same bytes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.stores import small

from m2n2lab import CheckpointSpace, load_archive, rebuild, save_archive, store, tasks

EARLIER = Path(__file__).resolve().parents[1] / "data" / "earlier"
SMALL = {1: "m2n2", 2: "m2n2+", 3: "ga", 4: "map-elites", 5: "cma-es"}


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """A copy of the files, in which runs can be recorded."""
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def equal_archives(evolver, name):
    """Compare a search's archive with a file, bit for bit; the maker aside."""
    save_archive(evolver, "now.safetensors")
    now, then = load_archive("now.safetensors"), load_archive(name)
    for field in ("ids", "born", "fitness", "scores"):
        assert np.array_equal(getattr(now, field), getattr(then, field)), field
    assert now.parents == then.parents
    assert now.layout.shapes == then.layout.shapes
    assert {**now.about, "maker": ""} == {**then.about, "maker": ""}
    for a, b in zip(now.models, then.models, strict=True):
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes()
        else:
            assert a == b
    return True


@pytest.mark.parametrize(("run", "method"), SMALL.items())
def test_a_run_of_an_earlier_version_resumes_and_goes_on_bit_for_bit(run, method, earlier):
    evolver = store.resume("runs.db", run, task=small())
    assert (evolver.method, evolver.generation) == (method, 60)
    assert equal_archives(evolver, f"{run}-step-60.safetensors")
    evolver.run(30, store="runs.db")
    assert equal_archives(evolver, f"{run}-step-90.safetensors")
    assert next(found.last for found in store.runs("runs.db") if found.run == run) == 90


def test_a_run_on_a_task_of_the_lab_resumes_without_being_given_the_task(earlier):
    evolver = store.resume("runs.db", 6)
    assert equal_archives(evolver, "6-step-60.safetensors")
    assert equal_archives(evolver.run(30), "6-step-90.safetensors")


@pytest.mark.parametrize("step", [0, 17, 41])
def test_a_run_of_an_earlier_version_branches_at_any_step_and_replays_to_its_end(step, earlier):
    branched = store.branch("runs.db", 1, step, task=small())
    assert branched.generation == step
    assert equal_archives(branched.run(60 - step), "1-step-60.safetensors")


def test_recipes_of_an_earlier_version_resume_and_rebuild_the_same_bytes(earlier):
    even = tasks.from_function(lambda model, at: at % 2 == 0, 6, name="even")
    space = CheckpointSpace("a.safetensors", "b.safetensors", granularity="tensor", module=object())
    space.materialise = lambda recipe: recipe
    evolver = store.resume("runs.db", 7, task=even, seeds=space)
    assert equal_archives(evolver, "7-step-60.safetensors")
    draw = np.random.default_rng(6)
    for _ in range(30):
        evolver.tell(evolver.ask(), draw.random(6) < 0.5)
    assert equal_archives(evolver, "7-step-90.safetensors")
    rebuild("merged/recipe.json", "again")
    weights = [name for name in os.listdir("merged") if name.endswith(".safetensors")]
    assert weights
    for name in weights:
        assert Path("again", name).read_bytes() == Path("merged", name).read_bytes()
