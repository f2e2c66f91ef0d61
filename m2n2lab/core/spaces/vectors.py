"""Vectors: what is taken as the flat vector of a model, and sentences for what is not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array, tensor_array
from m2n2lab.utils.errors import InputError, described


def flat_vector(model: Any) -> Array:
    """Return a vector-like model as an array (N,) of real numbers.

    Args:
        model: an array, a list, or a torch tensor of any dtype, with a gradient or on a GPU.

    Raises:
        InputError: it is anything else.
    """
    try:
        array = tensor_array(model) if hasattr(model, "detach") else np.asarray(model)
    except (TypeError, ValueError):  # rows of different lengths, or an object that is no array
        array = np.empty((), dtype=object)
    if array.dtype.kind == "c":
        raise InputError(
            f"Weights must be real numbers, got {array.dtype}; give real and imaginary parts as "
            f"weights of their own, for example by torch.view_as_real."
        )
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.number):
        found = array.dtype if array.ndim == 1 and array.dtype.kind != "O" else described(model)
        raise InputError(
            f"A model must be one flat vector of numbers or a torch module, got {found}; "
            f"{_advice(model, array)}."
        )
    return array


def _advice(model: Any, array: Array) -> str:
    """Return what to do with something that is no vector."""
    if isinstance(model, Mapping):
        return (
            "give the module that a state dict belongs to, as in DenseSpace([a, b], module=net), "
            "or load it: net.load_state_dict(…)"
        )
    if isinstance(model, (str, os.PathLike)) or array.dtype.kind == "U":
        return "open files with m2n2lab.CheckpointSpace(path, path)"
    if isinstance(model, Recipe):
        return "use the CheckpointSpace that the recipe is of"
    if isinstance(model, type) and issubclass(model, nn.Module):
        return f"make a module of it: {model.__name__}(…)"
    if hasattr(model, "get_params") and hasattr(model, "fit"):
        return (
            "give an estimator's weights as one vector, as in np.concatenate([model.coef_.ravel(), "
            "model.intercept_.ravel()]), and let the task put them into the estimator"
        )
    if array.ndim > 1:
        return "flatten its weights"
    return "give its weights as one vector"


def listed_models(models: Any) -> Sequence[Any] | Array | Tensor:
    """Return a list of models, or the rows of a matrix (K, N): at least two.

    Raises:
        InputError: there are fewer, or it is no list.
    """
    if isinstance(models, (str, os.PathLike)):
        raise InputError(
            f"A merge needs at least two seeds in a list or a matrix, got {described(models)}; "
            f"open files with m2n2lab.CheckpointSpace(path, path)."
        )
    if not isinstance(models, (Sequence, np.ndarray, Tensor)):
        raise InputError(
            f"A merge needs at least two seeds in a list or a matrix, got {described(models)}; "
            f"list the models."
        )
    if isinstance(models, (np.ndarray, Tensor)) and models.ndim < 2 and models.dtype != object:
        raise InputError(
            f"A merge needs at least two seeds, got {described(models)}; give a list of vectors or "
            f"a matrix (K, N)."
        )
    if len(models) < 2:
        raise InputError(f"A merge needs at least two seeds, got {len(models)}; add another model.")
    return models
