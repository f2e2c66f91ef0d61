import re
from pathlib import Path

import pytest

from m2n2lab import METHODS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0])
def test_every_python_example_runs_as_it_is_written(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("import m2n2lab as lab\n" + block, names)
    if "print" in block:
        assert re.search(r"ranks \d+ of \d+.*\nstep 1001: child 1002", capsys.readouterr().out)


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
    assert [name for name in METHODS if f"`{name}`" not in README] == []
