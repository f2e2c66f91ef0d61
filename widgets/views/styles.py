"""Styles: what Panel's own widgets need to fit the page in both themes."""

from __future__ import annotations

from m2n2lab.viz.theme import Theme

SELECT = "select.bk-input { appearance: auto !important; background-image: none !important; }"
"""The browser's own arrow: Panel's is a black picture, which dark colours hide."""

SMALL = """
.bk-btn { padding: 3px 8px; font-size: 12px; }
.bk-btn-group > .bk-btn.bk-active { color: var(--card) !important; box-shadow: none !important;
                                    background-color: var(--text) !important; }
"""
"""Buttons in a row of text; the chosen one of several has the page's colours the other way."""

INLINE = """
.bk-input-group { flex-direction: row; align-items: center; gap: 6px; font-size: 12px; }
.bk-input { flex: 1; min-width: 0; height: 28px; font-size: 12px;
            padding-top: 2px; padding-bottom: 2px; }
"""
"""A field with its name beside it."""


def primary(theme: Theme) -> str:
    """Return the style of a primary button, whose text is as dark as the page is light."""
    return f".bk-btn-primary {{ color: {theme.card} !important; }}"
