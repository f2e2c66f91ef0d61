"""Styles: what Panel's own widgets need to fit the page in both themes."""

from __future__ import annotations

from m2n2lab.viz.theme import Theme

FOCUS = """
:is(button, a, select, input):focus-visible { outline: 2px solid var(--text) !important;
                                              outline-offset: 1px !important; }
"""
"""A visible focus, whatever Panel's own style says; part of every style below."""

SELECT = (
    f"{FOCUS} select.bk-input {{ appearance: auto !important; background-image: none !important; }}"
)
"""The browser's own arrow: Panel's is a black picture, which dark colours hide."""

SMALL = (
    FOCUS
    + """
.bk-btn { padding: 3px 8px; font-size: 12px; min-height: 24px; }
"""
)
"""Buttons in a row of text."""

HIDDEN_NAME = (
    "label { position: absolute; width: 1px; height: 1px; overflow: hidden; "
    "clip-path: inset(50%); }"
)
"""The name of a field that is spoken, not shown."""

INLINE = (
    FOCUS
    + """
.bk-input-group { flex-direction: row; align-items: center; gap: 6px; font-size: 12px; }
.bk-input { flex: 1; min-width: 0; height: 28px; font-size: 12px;
            padding-top: 2px; padding-bottom: 2px; }
"""
)
"""A field with its name beside it."""


def primary(theme: Theme) -> str:
    """Return the style of a primary button, whose text is as dark as the page is light."""
    return f"{FOCUS} .bk-btn-primary {{ color: {theme.card} !important; }}"
