"""Run page: the file itself, made of a template, a style, a script and the data of a search."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from m2n2lab.core.archive import Archive
from m2n2lab.core.evolver import Evolver, checked_evolver
from m2n2lab.viz.fonts import FONT_STACK, font_face
from m2n2lab.viz.run_page.data import run_data
from m2n2lab.viz.theme import DARK, LIGHT, Theme, ramp

MAX_BYTES = 10_000_000
"""Largest size of a run page, which mail and chats still take."""

_COLOURS = ("page", "card", "line", "text", "quiet", "faint", "parent_a", "parent_b", "child")

# As JSON has them, these signs mean the same; in HTML none of them can end a script or begin a tag.
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def run_page(evolver: Evolver, past: Iterable[tuple[int, Archive]] = (), code: str = "") -> str:
    """Return a search as one HTML file of at most ``MAX_BYTES``, which needs nothing else.

    Of a long run fewer archives are kept until it fits; the page says what is left out. The best
    member is evaluated to show its answers.

    Args:
        evolver: the search; another thread may step it meanwhile.
        past: step and archive of earlier moments, in order (see ``m2n2lab.store.past``).
        code: Python that makes the run again; by default such as the evolver knows.
    """
    evolver, kept = checked_evolver(evolver), [*past]
    while True:
        with evolver.turn():
            page = _filled(run_data(evolver, kept, code))
        if len(page.encode()) <= MAX_BYTES or not kept:
            return page
        kept = kept[::2] if len(kept) > 1 else []


def _filled(data: dict[str, Any]) -> str:
    """Return the template with the data of a run."""
    colours = {theme.name: {"ramp": ramp(theme, start=1, steps=256)} for theme in (LIGHT, DARK)}
    for theme in (LIGHT, DARK):
        colours[theme.name] |= {"seeds": [*theme.seeds], "outside": [theme.outside]}
        colours[theme.name] |= {"runs": [*theme.runs]}
    script, style = _asset("run_page.js"), _style()
    text = json.dumps({**data, "themes": colours}, allow_nan=False, separators=(",", ":"))
    return Template(_asset("run_page.html")).substitute(
        title=escape(data["title"]),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=text.translate(_ESCAPES),
    )


def _asset(name: str) -> str:
    return files("m2n2lab.viz.run_page").joinpath(name).read_text(encoding="utf-8")


def _style() -> str:
    """Return the style sheet with the colours of both themes and the font for Japanese."""
    dark = _variables(DARK)
    return (
        f":root {{ {_variables(LIGHT)} --letters: {FONT_STACK}; color-scheme: light; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) "
        f"{{ {dark} color-scheme: dark; }} }}\n"
        f":root[data-theme=dark] {{ {dark} color-scheme: dark; }}\n"
        f"{font_face()}\n{_asset('run_page.css')}"
    )


def _variables(theme: Theme) -> str:
    return " ".join(f"--{name}: {getattr(theme, name)};" for name in _COLOURS)


def _hash(text: str) -> str:
    """Return what a content security policy calls a script or a style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
