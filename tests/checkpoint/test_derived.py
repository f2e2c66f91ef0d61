"""Children that no coefficients can express, over checkpoints: TIES, DARE and rules of one's own."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import llama, tensors
from helpers.merges import same, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import m2n2lab as lab
from m2n2lab import CheckpointSpace, DenseSpace, InputError, Proposal, rebuild
from m2n2lab.core.operators import Dare, Lerp, Slerp, TensorRule, Ties
from m2n2lab.core.operators.parts import Parts, crossover_rng
from m2n2lab.core.spaces.derived import lineage
from m2n2lab.core.spaces.recipe import Recipe

SHAPES = {"h.0.attn": (4, 6), "h.0.mlp": (30,), "h.1.attn": (4, 6), "h.1.mlp": (30,), "head": (9,)}
PARTS = {
    "whole": None,
    "groups": {"groups": {"attention": "*attn", "rest": "*"}},
    "exclude": {"exclude": "*mlp"},
    "freeze": {"freeze": "head", "include": ["h.*"]},
    "groups and freeze": {"groups": {"first": "h.0.*", "rest": "*"}, "freeze": "h.1.attn"},
}


class Middle(lab.Crossover, TensorRule, name="middle"):
    """A rule of one's own: the median of three."""

    def __call__(self, a, b, proposal, space, rng):
        models = [a, b, space.seeds[2]]
        return space.per_tensor(self, models, [0, space.size], [proposal.mix], proposal.seed)

    def tensor(self, values, share, rng):
        return np.median(values, axis=0)


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    """The same three seeds as checkpoints and as vectors, in float32 and float64."""
    root, rng = tmp_path_factory.mktemp("seeds"), np.random.default_rng(0)
    base = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    files = []
    for k in range(3):
        changed = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in base.items()}
        contents = {name: value.astype(np.float32) for name, value in changed.items()}
        files.append(tensors(root / f"{k}.safetensors", contents))
    space = CheckpointSpace(*files)
    vectors = [flat(space, load_file(file)) for file in files]
    return space, *(DenseSpace(vectors, space.layout, dtype=d) for d in ("float32", "float64"))


def flat(space, state):
    return np.concatenate([np.asarray(state[name]).ravel() for name in space.layout.shapes])


class Holder(torch.nn.Module):
    """A module with the tensors of a file."""

    def __init__(self, space):
        super().__init__()
        self.values = {name: torch.zeros(shape) for name, shape in space.layout.shapes.items()}

    def state_dict(self):
        return self.values


def made(space, recipe):
    """Return a recipe's weights (N,) as a live module gets them, without rounding to 16 bits."""
    holder = Holder(space)
    space._module, space._live = holder, None
    space.materialise(recipe)
    return flat(space, {name: value.numpy() for name, value in holder.values.items()})


def cross(space, crossover, parts, a, b, proposal):
    if parts is not None:
        return Parts(space.layout, **parts).cross(crossover, a, b, proposal, space)
    return crossover(a, b, proposal, space, crossover_rng(proposal))


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", [*lab.Crossover.named])
def test_children_of_checkpoints_equal_those_of_vectors(name, parts, spaces):
    space, single, double = spaces
    crossover, limits = lab.Crossover.of(name), PARTS[parts]
    members = [list(each.seeds) for each in spaces]
    rng = np.random.default_rng(3)
    for generation in range(8):
        a, b = rng.permutation(len(members[0]))[:2]
        split, mix = int(rng.integers(space.size + 1)), float(rng.random())
        proposal = Proposal((int(a), int(b)), split, mix, generation)
        for each, known in zip(spaces, members, strict=True):
            known.append(cross(each, crossover, limits, known[a], known[b], proposal))
        weights = made(space, members[0][-1])
        np.testing.assert_allclose(weights, members[2][-1].values, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(weights, members[1][-1].values, rtol=1e-6, atol=2e-6)
        assert single is not double
