"""Genomes as arguments: checked where a person may give a model or a member instead."""

from __future__ import annotations

from typing import Any, TypeVar

from m2n2lab.utils.errors import InputError, described

GenomeT = TypeVar("GenomeT")


def checked_genome(value: Any, expected: type[GenomeT]) -> GenomeT:
    """Return ``value``, checked to be a genome of the space's class.

    Raises:
        InputError: it is anything else.
    """
    if isinstance(value, expected):
        return value
    advice = "space.genome(model) makes one of a model"
    if hasattr(value, "genome") and not isinstance(value, type):
        advice = "give its .genome"
    raise InputError(
        f"A genome of this space must be a {expected.__name__}, got {described(value)}; {advice}."
    )
