"""Subsets: every task scores some of its data points exactly as it scores them among all."""

import numpy as np
import pytest

from m2n2lab.config.builders import build_seeds, build_task
from m2n2lab.config.names import TASKS
from m2n2lab.config.settings import Settings

LIMITS = {"gsm8k": 8, "webshop": 4, "gsm8k+webshop": 4, "text2image": 4}


@pytest.mark.parametrize("name", [name for name in TASKS if name != "mnist"])
def test_a_subset_is_scored_exactly_as_among_all_data_points(name):
    settings = Settings(task=name, threads=1, limit=LIMITS.get(name))
    task = build_task(settings)
    seeds = build_seeds(settings, task)
    space = seeds if hasattr(seeds, "materialise") else task.space(seeds)
    a, b = space.seeds[:2]
    for genome in (space.merge(a, b, int(0.55 * space.size), 0.35), a, b):
        model = space.materialise(genome)
        whole = task.evaluate(model)
        if 0.0 < whole.mean() < 1.0:
            break
    assert 0.0 < whole.mean() < 1.0  # else equal scores would show little
    rng = np.random.default_rng(0)
    for _ in range(4):
        subset = rng.permutation(task.points)[: rng.integers(1, task.points)]
        np.testing.assert_array_equal(task.evaluate(model, subset), whole[subset])
