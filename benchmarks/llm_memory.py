"""Two steps with GSM8K's questions for language models of 1.1B parameters: how much memory.

Makes two bf16 Llamas with random weights in a temporary folder (4.4 GB of disk). The seeds are
mapped from their files, so what a search must hold of its own is one live model and little else.

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
from merge_speed import LAYERS, make, run

from m2n2lab.zoo import MATHS

ROOM = 1e9
"""Bytes beyond one model that a search may take."""

WORK = """
import sys, torch, m2n2lab as lab
from m2n2lab.tasks.language.gsm8k_data import Problem
torch.set_num_threads(2)
asked = [Problem(f"What is {k} + 2?", f"#### {k + 2}") for k in range(2)]
space = lab.CheckpointSpace(*sys.argv[1:])
evolver = lab.Evolver(lab.tasks.GSM8K(asked, max_new_tokens=4), space, rng=0)
evolver.run(2)
assert evolver.generation == 2 and space.size > 0
"""


def peak(folder: Path, layers: int = LAYERS) -> tuple[float, float]:
    """Return the bytes of one model, and the most that two steps took beyond the file cache."""
    seeds = []
    for k, name in enumerate("ab"):
        seeds.append(make(folder / name, layers, k))
        for file in MATHS.glob("token*.json"):
            shutil.copy(file, seeds[-1])
    size = json.loads((seeds[0] / "model.safetensors.index.json").read_text("utf-8"))
    took = run([sys.executable, "-c", WORK, *map(str, seeds)], folder / "cache")
    return float(size["metadata"]["total_size"]), took[1]


def measure(folder: Path | None = None) -> Iterator[Finding]:
    """Make the models, search, and yield what it took beyond one model."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        model, most = peak(Path(name))
    print(f"one model of {model / 2e9:.1f}B parameters       {model / 1e9:6.2f} GB")
    print(f"peak memory beyond the file cache  {most / 1e9:6.2f} GB")
    beyond = (most - model) / 1e9
    yield at_most("memory of a search beyond one live 1.1B model", beyond, ROOM / 1e9, " GB")


def findings(quick: bool) -> Iterator[Finding]:
    if not quick:
        yield from measure()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    list(measure(parser.parse_args().folder))


if __name__ == "__main__":
    main()
