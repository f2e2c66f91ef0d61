"""Fixtures shared by the tests, and how they run."""

import numpy as np
import pytest
import torch
from hypothesis import settings

from m2n2lab import tasks

# Products this small gain nothing from a second thread, and on a machine with two busy cores two
# threads wait for each other.
torch.set_num_threads(1)

# The same examples on every machine and no deadline: a slow moment is not a bug.
settings.register_profile(
    "m2n2lab", derandomize=True, database=None, deadline=None, max_examples=50
)
settings.load_profile("m2n2lab")


@pytest.fixture(scope="session")
def tiny():
    """Four classes around four corners, 82 weights: a step takes a fraction of a millisecond."""
    draw = np.random.default_rng(1)
    y = np.arange(80) % 4
    X = draw.normal(size=(80, 8)) + 3 * np.eye(8)[y]
    return tasks.Classify(X[:60], y[:60], X[60:], y[60:], hidden=6, name="tiny")


@pytest.fixture(scope="session")
def tiny_seeds(tiny):
    seeds = tiny.random_seeds(2, rng=3, scale=0.5)
    seeds.flags.writeable = False
    return seeds


@pytest.fixture(scope="session")
def digits():
    return tasks.digits()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep what is remembered of checkpoints away from the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("M2N2LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
