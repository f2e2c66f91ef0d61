"""Assets: scripts, style sheets and templates beside the modules that use them."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def asset(path: str) -> str:
    """Return the text of a file by its path below the widgets: ``asset("page/page.css")``."""
    return (_ROOT / path).read_text(encoding="utf-8")
