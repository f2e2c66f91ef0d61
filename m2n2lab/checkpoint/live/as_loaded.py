"""Tensors of files as transformers loads them: under other names, split or rearranged."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class Loading:
    """What transformers does to the names and forms of a file's tensors when it loads a module.

    Args:
        module: a module; those that are none of transformers have the names of their files.
        state: its tensors by name.
    """

    def __init__(self, module: Any, state: Mapping[str, Tensor]) -> None:
        self.module, self.state = module, dict(state)
        self._prefix = getattr(module, "base_model_prefix", None)
        self._renamings: list[Any] = []
        self._others: list[Any] = []
        for each in _conversions(module):
            (self._others if hasattr(each, "operations") else self._renamings).append(each)

    def name(self, name: str) -> str:
        """Return the name that a tensor of a file has in the module, if it keeps its form."""
        found, pattern = self._renamed(name)
        return name if pattern else found

    def is_changed(self, name: str) -> bool:
        """Return whether a tensor of a file has another form in the module."""
        return self._renamed(name)[1] is not None

    def rearranged(self, name: str, shape: tuple[int, ...]) -> Rearranged | None:
        """Return the tensors that one of a file is split or rearranged into.

        ``None`` if it keeps its form, or is put together with others.

        Args:
            name: its name in the file.
            shape: its shape there.
        """
        found, pattern = self._renamed(name)
        if pattern is None:
            return None
        converter = next(each for each in self._others if pattern in each.source_patterns)
        into = Rearranged(self, name, found, pattern, converter)
        try:
            parts = into.parts(torch.empty(shape, device="meta"))
        except Exception:  # an operation that needs other tensors too
            return None
        fits = all(
            key in self.state and self.state[key].shape == part.shape for key, part in parts.items()
        )
        return into if parts and fits else None

    def _renamed(self, name: str) -> tuple[str, str | None]:
        """Return a tensor's name in the module, and the pattern of what changes its form."""
        if not self._renamings and not self._others:
            return name, None
        from transformers.core_model_loading import rename_source_key

        found, pattern = rename_source_key(
            name, self._renamings, self._others, self._prefix, self.state
        )
        return str(found), pattern


class Rearranged:
    """A tensor of a file that transformers splits or rearranges when it loads it.

    A weight of queries, keys and values in one, say, becomes three tensors.
    """

    def __init__(
        self, loading: Loading, name: str, found: str, pattern: str, converter: Any
    ) -> None:
        self._loading, self._name, self._found = loading, name, found
        self._pattern, self._converter = pattern, converter

    def parts(self, value: Tensor) -> dict[str, Tensor]:
        """Return what a tensor of the file becomes, by name in the module."""
        module = self._loading.module
        converter = deepcopy(self._converter)
        converter.add_tensor(self._found, self._name, self._pattern, value)
        parts = converter.convert(self._found, model=module, config=module.config)
        return {name: part[0] if isinstance(part, list) else part for name, part in parts.items()}

    def write(self, value: Tensor) -> None:
        """Write a tensor of the file into the module."""
        for name, part in self.parts(value).items():
            self._loading.state[name].detach().copy_(part)


def _conversions(module: Any) -> list[Any]:
    """Return how transformers converts a module's files; nothing for other modules."""
    if not isinstance(module, nn.Module) or not hasattr(module, "base_model_prefix"):
        return []
    if (own := getattr(module, "_weight_conversions", None)) is not None:
        return list(own)
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import PrefixChange
    except ImportError:  # an earlier version, whose modules are as their files
        return []
    # A module that was not loaded: its prefixes are those of its class.
    return [
        each
        for each in get_model_conversion_mapping(module, add_legacy=False)
        if not isinstance(each, PrefixChange)
    ]
