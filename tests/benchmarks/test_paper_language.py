"""The paper's second experiment: what is run in which order, and what is made of the results."""

from pathlib import Path

import experiments
import numpy as np
import pandas as pd
import paper_language
import pytest
from paper_language import METHODS, STATICS, searches

from m2n2lab.zoo.language import trained

needs_zoo = pytest.mark.skipif(not trained(), reason="the zoo's language models are not here")


def ended(folder, name, tests, steps=100):
    rows = [
        {"seed": seed, "step": step, "train": 0.5, "coverage": 0.9, "entropy": 0.7, "seconds": 60.0}
        | dict.fromkeys(("maths", "shopping", "test"), test if step else np.nan)
        for seed, test in enumerate(tests)
        for step in (0, steps)
    ]
    pd.DataFrame(rows).to_csv(Path(folder, f"{name}-at-{steps}.csv"), index=False)


def test_every_method_gets_as_many_evaluations_of_the_same_examples():
    wanted = searches((*METHODS, *STATICS), 3, 100)
    found = [each for each in wanted if each.measure is paper_language.searched]
    assert {each.steps for each in found} == {100}
    assert {(each.settings.limit, each.settings.held_out) for each in wanted} == {(30, 64)}
    assert [each.seed for each in found] == [0] * 6 + [1] * 6 + [2] * 6
    for each in found:
        each.settings.check()


def test_merges_without_a_search_are_tried_once_unless_they_are_random():
    wanted = searches([*STATICS], 3, 100)
    assert [each.name for each in wanted].count("dare-at-5") == 3
    assert [each.name for each in wanted].count("ties-at-5") == 1


def test_cma_es_has_the_papers_population_at_the_papers_budget():
    assert [experiments.population(count) for count in (15, 100, 300, 1000)] == [4, 8, 14, 25]


def test_the_table_has_gains_of_the_same_seeds_and_leaves_the_papers_column_empty(tmp_path):
    ended(tmp_path, "m2n2", [0.70, 0.72, 0.74])
    ended(tmp_path, "ga", [0.60, 0.62])
    pd.DataFrame(
        [{"seed": 0, "step": 5, "train": 0.5, "maths": 0.9, "shopping": 0.8, "test": 0.85}]
    ).to_csv(tmp_path / "ties-at-5.csv", index=False)
    gain = paper_language.gain_of(tmp_path, "ga", 100)
    assert (gain.runs, round(gain.mean, 6), round(gain.half, 6)) == (2, -10.0, 0.0)
    static = paper_language.gain_of(tmp_path, "ties", 100)
    assert (static.runs, round(static.mean, 6)) == (3, 13.0)
    lines = paper_language.table(tmp_path, 100).splitlines()
    assert lines[2].startswith("| M2N2, 3 seeds |  | 72.0 ± ")
    assert "| TIES (density 0.2), best of 5 λ |  | 90.0 | 80.0 | 85.0 |" in lines[-1]


@needs_zoo
@pytest.mark.slow
def test_a_short_search_and_a_merge_give_rows_with_held_out_scores_at_the_end():
    search = paper_language.searches(["m2n2"], 1, 15)[0]
    rows = paper_language.searched(search)
    assert rows["step"].iloc[-1] == 15
    assert rows["test"].notna().sum() == 1
    (merge,) = searches(["maths"], 1, 15)
    assert paper_language.tried(merge)["maths"].iloc[-1] > 0.9
