import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from m2n2lab import METHODS, make_evolver
from m2n2lab.analysis import niches_data
from m2n2lab.core.methods import registry
from m2n2lab.viz import LIGHT

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)
RECIPES = re.findall(r"## (An? \w+)\n.*?```python\n(.*?)```", CONTRIBUTING, flags=re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0])
def test_every_python_example_runs_as_it_is_written(block, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "METHODS", METHODS.copy())
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("import m2n2lab as lab\n" + block, names)
    if "print" in block:
        assert re.search(r"Fitness .* of \d+.*\nstep 1001: child 1002", capsys.readouterr().out)


def test_every_file_that_is_named_exists():
    named = re.findall(r"\]\(([^):]+)\)", README)
    for cell in re.findall(r"^\| (`.*?) \|", README, flags=re.M):
        parts = re.findall(r"`([^`]+)`", cell)
        folder = parts[0].rpartition("/")[0]
        named += [part if "/" in part else f"{folder}/{part}" for part in parts]
    assert len(named) > 10
    heads = re.findall(r"^#+ (.*)", README, flags=re.M)
    places = {"#" + re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
    missing = [name for name in named if name not in places and not (ROOT / name).exists()]
    assert missing == []


def test_all_methods_are_named():
    page = (ROOT / "docs" / "do" / "method.md").read_text(encoding="utf-8")
    assert [name for name in METHODS if f"`{name}`" not in page] == []


def test_the_first_page_is_short():
    assert len(README.splitlines()) <= 200


def test_the_recipes_of_contributing_run_as_they_are_written(monkeypatch):
    monkeypatch.setattr(registry, "METHODS", METHODS.copy())
    names = {}
    assert [title for title, _ in RECIPES] == ["A task", "An operator", "A method", "A view"]
    for _, block in RECIPES:
        exec(block, names)
    task = names["parity"](bits=4)
    search = make_evolver("greedy", task, np.eye(2, 4), mutation=0.5, rng=0)
    parents = [(search.archive.best.id, search.step().parents[0]) for _ in range(20)]
    assert all(best == a for best, a in parents)
    view = names["RanksView"](LIGHT)
    view.update(SimpleNamespace(niches=niches_data(search.archive, task)))
    shown = view.pane.object.dimension_values("fitness").tolist()
    assert shown == sorted(search.archive.fitness, reverse=True)
