"""Three steps of `evolve` with language models of 1.1B parameters: how long, and how much memory.

Makes two bf16 Llamas with random weights in a temporary folder (4.4 GB of disk), one of them with a
row more, as the paper's pair has it. The seeds are mapped from their files, so what a search must
hold of its own is one live model and little else.

    python benchmarks/llm_memory.py
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from findings import Finding, at_most
from merge_speed import LAYERS, VOCAB, make, run

from m2n2lab.zoo import MATHS

ROOM = 1e9
"""Bytes beyond one model that a search may take."""

STEPS = 3

WORK = """
import json, sys, time
from contextlib import suppress
from pathlib import Path
from unittest import mock
from m2n2lab.checkpoint import CheckpointSpace
from m2n2lab.checkpoint.live import live_module
from m2n2lab.cli import main

told, steps, data, *seeds = sys.argv[1:]
took = {"loading": 0.0, "merging": 0.0}

def timed(name, function):
    def run(*given, **more):
        began = time.perf_counter()
        try:
            return function(*given, **more)
        finally:
            took[name] += time.perf_counter() - began
    return run

sys.argv = ["m2n2lab", "evolve", "--task", "gsm8k", "--data", data, "--limit", "2"]
sys.argv += ["--held-out", "0", "--max-new-tokens", "4", "--threads", "2", "--steps", steps]
sys.argv += ["--json", "--seeds", *seeds]
began = time.perf_counter()
load = timed("loading", live_module.load_module)
merge = timed("merging", CheckpointSpace.materialise)
with (
    mock.patch.object(live_module, "load_module", load),
    mock.patch.object(CheckpointSpace, "materialise", merge),
    suppress(SystemExit),
    open(told + ".json", "w") as out,
    mock.patch.object(sys, "stdout", out),
):
    main()
took["merging"] -= took["loading"]  # the first model is loaded when it is first written into
took["all"] = time.perf_counter() - began
took["steps"] = json.loads(Path(told + ".json").read_text())["seconds"]
Path(told).write_text(json.dumps(took))
"""


def search(folder: Path, layers: int = LAYERS) -> tuple[float, float, dict[str, float]]:
    """Return the bytes of one model, the most beyond the file cache, and what took how long."""
    seeds = []
    for k, name in enumerate("ab"):
        seeds.append(make(folder / name, layers, k, VOCAB + 1 - k))
        for file in MATHS.glob("token*.json"):
            shutil.copy(file, seeds[-1])
    asked = [{"question": f"What is {k} + 2?", "answer": f"#### {k + 2}"} for k in range(6)]
    data, told = folder / "problems.jsonl", folder / "told"
    data.write_text("".join(json.dumps(line) + "\n" for line in asked))
    size = json.loads((seeds[0] / "model.safetensors.index.json").read_text("utf-8"))
    command = [sys.executable, "-c", WORK, *map(str, (told, STEPS, data, *seeds))]
    _, most = run(command, folder / "cache")
    return float(size["metadata"]["total_size"]), most, json.loads(told.read_text())


def measure(folder: Path | None = None) -> Iterator[Finding]:
    """Make the models, search, and yield what it took."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        model, most, took = search(Path(name))
    step = took["steps"] / STEPS
    merging = took["merging"] / took["all"]
    loading = took["loading"] / took["all"]
    print(f"one model of {model / 2e9:.1f}B parameters       {model / 1e9:6.2f} GB")
    print(f"peak memory beyond the file cache  {most / 1e9:6.2f} GB")
    print(f"evolve, {STEPS} steps and both seeds     {took['all']:6.1f} s")
    print(f"a step                             {step:6.1f} s")
    print(f"share of merging, and of loading   {merging:6.1%} {loading:6.1%}")
    beyond = (most - model) / 1e9
    yield at_most("memory of a search beyond one live 1.1B model", beyond, ROOM / 1e9, " GB")
    yield Finding("a step of evolve with a 1.1B pair, two questions", f"{step:.1f} s")
    shares = f"{merging:.1%}, {loading:.1%}"
    yield Finding("share of merging, and of loading the model, in evolve", shares)


def findings(quick: bool) -> Iterator[Finding]:
    if not quick:
        yield from measure()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    list(measure(parser.parse_args().folder))


if __name__ == "__main__":
    main()
