"""What the benchmarks make of many runs: intervals, verdicts, and results that are kept."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import curves
import findings
import numpy as np
import pandas as pd
import paper_figure
import published
import pytest
from findings import Finding, estimate
from variant import places

from m2n2lab import METHODS, InputError
from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings


def search(name="a", seed=0, steps=20):
    return curves.Search(name, steps, Settings(seed=seed, threads=1))


def rows_of(wanted, test=0.5):
    rows = [(wanted.seed, step, 0.1, test, 0.2, 0.3, 1.0) for step in (0, wanted.steps)]
    return pd.DataFrame(rows, columns=list(curves.COLUMNS))


@pytest.fixture
def ran(monkeypatch):
    """What was run, in threads of this process and without searching."""
    ran = []

    def measured(wanted):
        ran.append((wanted.name, wanted.seed, wanted.steps))
        if wanted.name == "broken":
            raise ValueError("no such model")
        return rows_of(wanted, test=0.5 + wanted.seed / 10)

    monkeypatch.setattr(curves, "measured", measured)
    monkeypatch.setattr(curves, "ProcessPoolExecutor", lambda n, **_: ThreadPoolExecutor(n))
    return ran


NUMBERS = Path(curves.__file__).parents[1] / "docs" / "numbers.md"


def test_the_figures_of_the_docs_are_those_of_the_last_full_run():
    shown = NUMBERS.read_text(encoding="utf-8")
    table = (curves.RESULTS / "paper" / "digits.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if "`" in line]
    told = [row for row in rows if len(row) == 7 and row[2] != "–"]
    assert len(told) == 12
    for _, method, paper, ours, interval, _, verdict in told:
        assert f"| {method} | {paper} | {ours} | {interval} | {verdict} |" in shown


def test_the_gains_of_the_variant_in_the_docs_are_those_that_were_judged():
    shown = NUMBERS.read_text(encoding="utf-8")
    table = (curves.RESULTS / "variant" / "judge.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if "seeds: " in line]
    ends = [figure for _, figure, *_ in rows]
    assert len(ends) == 3 * len(places(Path("mnist")))
    for plain, plus, gain in zip(ends[::3], ends[1::3], ends[2::3], strict=True):
        assert f"| {plain} | {plus} | {gain.removesuffix(' points')}" in shown
    adam = next(line for line in table.splitlines() if "Adam" in line).split(" | ")[1]
    assert f"{adam} of the test" in " ".join(shown.split())


# -- intervals and verdicts -----------------------------------------------------------------------


def test_an_interval_is_students_t():
    found = estimate([1.0, 2.0, 3.0])  # standard deviation 1, t(0.975, 2) = 4.3027
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
    assert str(found) == "2.0 ± 2.5"
    assert str(estimate([2.0])) == "2.0"


@pytest.mark.parametrize(
    ("paper", "values", "words"),
    [
        (87.0, [86.0, 88.0, 87.5], "agrees"),
        (60.0, [86.0, 88.0, 87.0], "27.0 points above"),
        (90.0, [86.0, 88.0, 87.0], "3.0 points below"),
        (90.0, [86.0], "one run tells nothing"),
        (None, [86.0, 88.0], "nothing to compare with"),
    ],
)
def test_a_verdict_says_whether_the_papers_value_is_in_our_interval(paper, values, words):
    assert paper_figure.verdict(paper, estimate(values)) == words


def test_a_figure_meets_its_target_up_to_and_with_the_limit():
    assert findings.at_most("ratio", 1.6, 1.6) == Finding("ratio", "1.60", "≤ 1.6", True)
    assert findings.at_least("ratio", 0.6, 0.7).verdict == "not met"
    assert Finding("speed", "900 steps/s").verdict == "–"


# -- the table of all benchmarks ------------------------------------------------------------------


def test_every_benchmark_is_in_the_table_and_tells_its_findings_in_one_way():
    scripts = [
        p for p in Path(findings.__file__).parent.glob("*.py") if "def main" in p.read_text()
    ]
    others = {"findings", "picture_features", "recording"}
    assert {p.stem for p in scripts} - others == {*findings.NAMES}
    for name in findings.NAMES:
        assert [*inspect.signature(import_module(name).findings).parameters] == ["quick"]


def test_a_benchmark_that_fails_is_a_row_after_what_it_had_found(tmp_path):
    (tmp_path / "half.py").write_text(
        "from findings import at_most\n"
        "def findings(quick):\n"
        "    print('some detail')\n"
        "    yield at_most(f'time, quick {quick}', 2.0, 3.0, ' s')\n"
        "    raise OSError('disk full')\n"
    )
    first, second = findings.run("half", False, tmp_path)
    assert first == Finding("time, quick False", "2.00 s", "≤ 3 s", True)
    assert second == Finding("half failed", "OSError: disk full", "", False)


# -- results that are kept ------------------------------------------------------------------------


def test_what_is_finished_is_never_run_again(tmp_path, ran):
    few = [search(seed=seed) for seed in range(2)]
    curves.gather(few, tmp_path)
    kept = curves.path(tmp_path, "a").read_bytes()
    curves.gather(few, tmp_path)
    assert sorted(ran) == [("a", 0, 20), ("a", 1, 20)]
    assert curves.path(tmp_path, "a").read_bytes() == kept
    curves.gather([*few, search(seed=2), search("b")], tmp_path)
    assert sorted(ran[2:]) == [("a", 2, 20), ("b", 0, 20)]
    assert curves.last(tmp_path, "a", 20) == [0.5, 0.6, 0.7]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "a.csv", "b.csv"]


def test_a_longer_search_takes_the_place_of_a_shorter_one(tmp_path, ran):
    curves.gather([search(seed=0), search(seed=1)], tmp_path)
    curves.gather([search(seed=0, steps=40)], tmp_path)
    rows = curves.read(tmp_path, "a")
    assert rows.groupby("seed")["step"].max().to_dict() == {0: 40, 1: 20}
    assert curves.last(tmp_path, "a", 40) == [0.5]


def test_a_search_that_fails_stops_no_other_and_is_begun_anew(tmp_path, ran):
    for _ in range(2):
        with pytest.raises(InputError, match=r"1 failed: broken, seed 0 \(ValueError: no such"):
            curves.gather([search("broken"), search()], tmp_path)
    assert sorted(ran) == [("a", 0, 20), ("broken", 0, 20), ("broken", 0, 20)]
    assert not curves.path(tmp_path, "broken").exists()


def test_two_processes_do_not_write_to_one_folder(tmp_path, ran):
    with (
        curves.FileLock(tmp_path / ".lock"),
        pytest.raises(InputError, match="by one process, but another"),
    ):
        curves.gather([search()], tmp_path)
    assert ran == []


def test_a_search_keeps_its_start_and_its_end():
    rows = curves.measured(search(seed=3, steps=120))
    assert tuple(rows.columns) == curves.COLUMNS
    assert rows["step"].iloc[[0, 1, -1]].tolist() == [0, 2, 120]
    assert set(rows["seed"]) == {3}
    evolver = build_evolver(Settings(seed=3, threads=1)).run(120)
    assert rows["test"].iloc[-1] == evolver.test
    assert rows["train"].iloc[-1] == evolver.best.score
    assert rows["coverage"].iloc[-1] == evolver.archive.coverage
    assert rows["entropy"].iloc[-1] == evolver.archive.entropy


# -- the paper's figure ---------------------------------------------------------------------------


def test_the_figure_has_every_method_of_both_panels():
    everything = paper_figure.searches(paper_figure.STARTS, 10)
    assert len(everything) == 180
    methods = {wanted.settings.method for wanted in everything}
    assert methods == {*METHODS} - {"m2n2+", "cycle-qd"}
    for wanted in everything:
        wanted.settings.check()
        assert wanted.settings.pretrained != wanted.name.startswith("scratch")
        assert wanted.steps == (10_000 if wanted.settings.pretrained else 50_000)


def test_the_published_pair_is_what_jax_draws_trained_on_half_of_the_classes(digits):
    # From jax 0.10 with jax_threefry_partitionable off: normal(split(PRNGKey(42), 2)[0], (19210,)).
    with np.errstate(over="ignore"):
        keys = published.threefry(np.array([0, 42], np.uint32), np.arange(4, dtype=np.uint32))
        drawn = 0.01 * published.normals(keys[:2], 19_210)
    assert keys.tolist() == [2465931498, 3679230171, 255383827, 267815257]
    assert drawn[:2] == pytest.approx([-0.0033508, 0.01018849], abs=1e-7)
    assert 0.0098 < drawn.std() < 0.0102
    space = digits.space(published.specialists(digits))
    for part, seed in zip(published.HALVES, space.seeds, strict=True):
        right = digits.evaluate(space.materialise(seed))
        assert right[np.isin(digits.groups, part)].mean() > 0.9
        assert not right[~np.isin(digits.groups, part)].any()
