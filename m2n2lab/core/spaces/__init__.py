"""Spaces: the representation of models and their merge, as vectors or as recipes of seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2n2lab.utils.lazy import lazy_names

if TYPE_CHECKING:
    from m2n2lab.core.spaces.layout import Layout
    from m2n2lab.core.spaces.recipe import Recipe, split_factors
    from m2n2lab.core.spaces.slerp import angle, split_point
    from m2n2lab.core.spaces.space import DenseSpace, Space, Vector

_HOMES = {
    "DenseSpace": "m2n2lab.core.spaces.space",
    "Layout": "m2n2lab.core.spaces.layout",
    "Recipe": "m2n2lab.core.spaces.recipe",
    "Space": "m2n2lab.core.spaces.space",
    "Vector": "m2n2lab.core.spaces.space",
    "angle": "m2n2lab.core.spaces.slerp",
    "split_factors": "m2n2lab.core.spaces.recipe",
    "split_point": "m2n2lab.core.spaces.slerp",
}
__all__ = [
    "DenseSpace",
    "Layout",
    "Recipe",
    "Space",
    "Vector",
    "angle",
    "split_factors",
    "split_point",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
