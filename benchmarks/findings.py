"""What the benchmarks find, in one table: what, figure, target, met or not.

Every benchmark has a function ``findings(quick)`` that yields ``Finding``. This runs them all, each
in a process of its own, the quick version in ten minutes, and prints the table; one that fails is a
row too.

    python benchmarks/findings.py [names] [--full]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
NAMES = (
    "digits_speed",
    "digits_accuracy",
    "paper_figure",
    "paper_language",
    "paper_images",
    "compatibility",
    "by_the_text",
    "ablations",
    "variant",
    "store_speed",
    "kill_runs",
    "merge_speed",
    "scaling",
    "growth",
    "llm_merge",
    "llm_memory",
    "early_rejection",
    "image_merge",
    "sdxl_shape",
    "first_paint",
    "dashboard_latency",
    "drawing_latency",
    "dashboard_soak",
)
"""The benchmarks, in the order of the table."""

LIBRARIES = ("m2n2lab", "numpy", "torch", "cma", "scikit-learn")
MARK = "finding "
"""How a line begins by which a benchmark's process tells of a finding."""


class Finding(NamedTuple):
    """A row of the table.

    Attributes:
        what: what was measured.
        figure: what came out, with its unit and, of several runs, its interval.
        target: what should come out; empty where there is none.
        met: whether it did; ``None`` where there is no target or the quick version cannot tell.
    """

    what: str
    figure: str
    target: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """Met or not, in words."""
        return {True: "met", False: "not met", None: "–"}[self.met]


class Estimate(NamedTuple):
    """A mean and half of its 95 % interval; NaN where one run gives none."""

    mean: float
    half: float
    runs: int

    def words(self, sign: str = "") -> str:
        """Return it to a tenth; with ``"+"`` as ``sign`` what is positive says so."""
        mean = f"{self.mean:{sign}.1f}".replace("-", "−")
        return f"{mean} ± {self.half:.1f}" if self.runs > 1 else mean

    def __str__(self) -> str:
        return self.words()


def estimate(values: Iterable[float]) -> Estimate:
    """Return mean and 95 % t-interval of independent runs."""
    found = np.array([*values], float)
    if len(found) < 2:
        return Estimate(float(found.mean()), float("nan"), len(found))
    half = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    return Estimate(float(found.mean()), float(half), len(found))


def at_most(what: str, value: float, limit: float, unit: str = "", digits: int = 2) -> Finding:
    """Return a row whose figure should not be above ``limit``."""
    return Finding(what, f"{value:,.{digits}f}{unit}", f"≤ {limit:g}{unit}", bool(value <= limit))


def at_least(what: str, value: float, limit: float, unit: str = "", digits: int = 2) -> Finding:
    """Return a row whose figure should not be below ``limit``."""
    return Finding(what, f"{value:,.{digits}f}{unit}", f"≥ {limit:g}{unit}", bool(value >= limit))


def unjudged(rows: Iterable[Finding]) -> Iterator[Finding]:
    """Yield rows of a version too short to tell whether their targets are met."""
    for row in rows:
        yield row._replace(met=None)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def about() -> str:
    """Return machine, date and versions in a line."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {versions}"
    )


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def told(name: str, quick: bool) -> None:
    """Print a benchmark's findings as they come, for another process to read."""
    for finding in importlib.import_module(name).findings(quick):
        print(MARK + json.dumps(finding), flush=True)


def run(name: str, quick: bool, folder: Path = HERE) -> list[Finding]:
    """Return what a benchmark of a folder finds, in a process of its own; failing is a finding."""
    command = [sys.executable, "-W", "ignore", __file__, name, "--alone"]
    found: list[Finding] = []
    with subprocess.Popen(
        command + ([] if quick else ["--full"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    ) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            if line.startswith(MARK):
                found.append(Finding(*json.loads(line[len(MARK) :])))
            else:
                last = line.strip() or last
                print(f"  {line.rstrip()}", file=sys.stderr)
    if process.returncode:
        found.append(
            Finding(f"{name} failed", last[:100] or f"exit {process.returncode}", "", False)
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, help="benchmarks; all by default")
    parser.add_argument("--full", action="store_true", help="as long as it takes: hours")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        return told(options.names[0], not options.full)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; choose among {', '.join(NAMES)}")
    rows = []
    for name in options.names:
        began = perf_counter()
        print(f"== {name}", file=sys.stderr, flush=True)
        command = f"`python benchmarks/{name}.py`"
        rows += [(*row[:3], row.verdict, command) for row in run(name, not options.full)]
        print(f"  {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"\n{'full' if options.full else 'quick'} version, {about()}\n")
    print(markdown(("what", "figure", "target", "met", "command"), rows))
    return None


if __name__ == "__main__":
    main()
