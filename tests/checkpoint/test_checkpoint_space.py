"""The space of checkpoints: recipes in and out, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from helpers.checkpoints import tensors
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.core.spaces.recipe import Recipe

SIZE = 86


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    """Spaces of two and of three seeds."""
    made = {}
    for count in (2, 3):
        root = tmp_path_factory.mktemp("seeds")
        files = [
            tensors(root / f"{k}.safetensors", {"a": torch.randn(40), "b": torch.randn(2, 23)})
            for k in range(count)
        ]
        made[count] = CheckpointSpace(*files)
    return made


@st.composite
def recipes(draw, seeds):
    inner = draw(st.sets(st.integers(1, SIZE - 1), max_size=8))
    row = st.lists(st.floats(-2, 2), min_size=seeds, max_size=seeds)
    breaks = [0, *sorted(inner), SIZE]
    return Recipe(breaks, [draw(row) for _ in breaks[1:]])


@given(st.data())
def test_a_recipe_that_is_packed_comes_back(spaces, data):
    space = spaces[3]
    recipe = data.draw(recipes(3))
    assert space.genome(recipe) is recipe
    packed = space.pack(recipe)
    assert set(packed) == {"breaks", "coef"}
    assert space.genome(packed) == recipe
    assert space.genome({key: value.tolist() for key, value in packed.items()}) == recipe


def test_seeds_are_recipes_of_themselves(spaces):
    space = spaces[3]
    assert space.size == SIZE
    for k, seed in enumerate(space.seeds):
        assert seed.ancestry.tolist() == [float(k == other) for other in range(3)]


def test_what_is_no_recipe_of_these_seeds_is_refused(spaces):
    space = spaces[3]
    for model, got in ((5, "int"), (np.zeros(SIZE), "ndarray"), ("path", "str"), ({}, "dict")):
        with pytest.raises(InputError, match=f"must be a Recipe of its seeds, got {got};"):
            space.genome(model)
    for recipe in (Recipe.seed(0, 2, SIZE), Recipe.seed(0, 3, SIZE + 1)):
        with pytest.raises(
            InputError,
            match=f"must have 86 parameters and 3 seeds, got {recipe.size} and {recipe.seeds}; "
            f"use a recipe of these seeds",
        ):
            space.genome(recipe)


def test_other_mappings_of_two_are_refused(spaces):
    space = spaces[3]
    with pytest.raises(InputError, match="must be a Recipe of its seeds, got dict;"):
        space.genome({"weight": torch.zeros(3), "bias": torch.zeros(1)})


def test_mutation_is_refused(spaces):
    space = spaces[2]
    with pytest.raises(InputError, match=r"must be 0 for checkpoints, got 0\.1; use mutation=0"):
        space.mutate(space.seeds[0], 0.1, 3)


def test_options_that_do_not_exist_are_refused(spaces):
    space = spaces[2]
    files = [seed.path for seed in space.plan.seeds]
    with pytest.raises(InputError, match=r"no granularity named 'layer'.*: model, tensor"):
        CheckpointSpace(*files, granularity="layer")
    with pytest.raises(InputError, match="at least two checkpoints, got one"):
        CheckpointSpace(files[0])
    with pytest.raises(InputError, match="at least two checkpoints, got none"):
        CheckpointSpace()


def test_a_recipe_survives_json(spaces):
    space = spaces[2]
    child = space.merge(*space.seeds, 20, 0.3)
    assert space.genome(Recipe.from_json(json.loads(json.dumps(child.to_json())))) == child
