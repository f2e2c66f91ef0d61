"""Texts that lie beside the modules: scripts and style sheets."""

from __future__ import annotations

from pathlib import Path


def beside(name: str) -> str:
    """Return the text of a file in this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
