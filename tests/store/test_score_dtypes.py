"""Scores of any dtype: a resumed run equals an uninterrupted one bit for bit, by every method."""

import numpy as np
import pytest
import torch
from helpers.grids import GRIDS
from helpers.stores import same
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from m2n2lab import Archive, CheckpointSpace, DenseSpace, Evolver, make_evolver, store, tasks
from m2n2lab.core.methods.registry import METHODS
from m2n2lab.store.codec import pack_scores, unpack_scores

DTYPES = {
    "bool": torch.bool,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "uint8": torch.uint8,
}
POINTS = torch.randn(40, 15, generator=torch.Generator().manual_seed(1))
STEPS, AT = 70, 40


def weights(model):
    if isinstance(model, torch.Tensor):
        return model.float()
    return torch.cat([part.detach().flatten() for part in model.parameters()])


def task_of(dtype):
    """Return a task whose scores have ties, and tenths that no binary number equals."""
    torch_dtype, graded = DTYPES[dtype], dtype != "bool"

    def score(model, at):
        share = torch.sigmoid(POINTS[at] @ weights(model))
        if not torch_dtype.is_floating_point:
            return (share * (3 if graded else 2)).to(torch.int).to(torch_dtype)
        return ((share * 10).round() / 10).to(torch_dtype)

    return tasks.from_function(score, 40, graded=graded, name=f"tenths in {dtype}")


def modules():
    torch.manual_seed(0)
    return [torch.nn.Linear(4, 3) for _ in range(2)]


def vectors():
    return np.random.default_rng(0).normal(size=(2, 15))


SPACES = {
    "vectors": lambda: DenseSpace(vectors()),
    "double vectors": lambda: DenseSpace(vectors(), dtype="float64"),
    "modules": lambda: DenseSpace(modules()),
}


def check_resume(method, task, space, path, **options):
    """Compare a run that was stopped, resumed and branched with one that was not."""
    options = {} if method in GRIDS else {"archive_size": 5, **options}
    whole, half = (make_evolver(method, task, space(), rng=1, **options) for _ in range(2))
    whole.run(STEPS)
    half.run(AT, store=path)
    resumed = store.resume(path, task=task, seeds=space()).run(STEPS - AT, store=path)
    branched = store.branch(path, step=AT // 2, task=task, seeds=space()).run(STEPS - AT // 2)
    for other in (resumed, branched):
        assert np.array_equal(whole.records.table(), other.records.table(), equal_nan=True)
        assert [m.score for m in whole.archive.members] == [m.score for m in other.archive.members]
        if method == "cma-es":
            assert np.array_equal(whole.archive.scores, other.archive.scores)
        else:
            assert same(whole, other)
    following = [evolver.step().verdict for evolver in (whole, resumed, branched)]
    assert following[0] == following[1] == following[2]
    train = resumed.records.column("train")
    assert store.replay(path, step=STEPS).best.score == train[STEPS - 1]


SOME = [
    name if name == "float16" else pytest.param(name, marks=pytest.mark.slow) for name in DTYPES
]
"""Dtypes, of which the narrowest is the hardest."""


@pytest.mark.parametrize("dtype", SOME)
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_equals_an_uninterrupted_one(method, dtype, db):
    check_resume(method, task_of(dtype), SPACES["vectors"], db, mutation=0.2)


@pytest.mark.parametrize("dtype", SOME)
@pytest.mark.parametrize("space", ["double vectors", "modules"])
@pytest.mark.parametrize("method", ["m2n2", "m2n2+", "map-elites", "cma-es"])
def test_so_it_does_in_other_spaces(method, space, dtype, db):
    check_resume(method, task_of(dtype), SPACES[space], db, mutation=0.2)


@pytest.mark.parametrize("dtype", SOME)
@pytest.mark.parametrize("method", ["m2n2", "m2n2-no-split", "ga", "map-elites", "brute-force"])
def test_so_it_does_among_checkpoints(method, dtype, db, here):
    for k, module in enumerate(modules()):
        save_file(module.state_dict(), f"{k}.safetensors")

    def space():
        return CheckpointSpace("0.safetensors", "1.safetensors", module=torch.nn.Linear(4, 3))

    check_resume(method, task_of(dtype), space, db)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_early_rejection_resumes_likewise(dtype, db):
    check_resume("m2n2", task_of(dtype), SPACES["vectors"], db, mutation=0.2, chunk=7)


@given(
    st.sampled_from([name for name in DTYPES if name != "bfloat16"]),
    st.integers(1, 300),
    st.integers(0, 10**6),
)
def test_a_score_is_the_same_told_and_read_back(dtype, points, seed):
    scores = (np.random.default_rng(seed).random(points) * 3).astype(dtype)
    told, read = Archive(points, 2), Archive(points, 2)
    first = told.add(0, None, scores)
    again = read.add(0, None, unpack_scores(pack_scores(scores), points))
    assert first == again


def test_sums_of_scores_do_not_overflow():
    ones = tasks.from_function(lambda model, at: np.ones(len(at), np.float16), 70_000)
    assert Evolver(ones, vectors()).best.score == 1.0
    large = tasks.from_function(lambda model, at: np.full(len(at), 6e4, np.float16), 9, graded=True)
    assert Evolver(large, vectors()).best.score == 60_000.0
    many = tasks.from_function(lambda model, at: np.full(len(at), 200, np.uint8), 9, graded=True)
    assert Evolver(many, vectors()).best.score == 200.0


def test_scores_beyond_float32_are_kept_exactly(recwarn):
    scores = np.array([1e-300, 1e300, 0.1])
    assert unpack_scores(pack_scores(scores), 3).tolist() == scores.tolist()
    assert not recwarn.list
