"""Tooltips: sentences about the part of a plot under the mouse.

They are made in the browser from the columns of the element's own source, so that a view that
refreshes these refreshes the sentences too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bokeh.models import CustomJSHover, HoverTool

from m2n2lab.utils.text import plain
from m2n2lab.viz.fonts import FONT_STACK
from m2n2lab.viz.theme import Theme

MAX_NAME_CHARS = 80
"""Longest name from outside that is shown in full."""

_CODE = """
const {x, y, index} = special_vars
const own = (name) => source.data[name][index]
const number = (value) => value >= 1 ? value.toFixed(1) : value.toPrecision(2)
const texts = (() => {
  %s
})()
return texts[format] ?? ""
"""


def short_names(names: Iterable[object]) -> list[str]:
    """Return names from outside as texts, shortened if they are long."""
    return [plain(str(name), MAX_NAME_CHARS) for name in names]


def tooltip_hook(
    theme: Theme, sentence: str, code: str, about: dict[str, Any]
) -> Callable[..., None]:
    """Return a hook that gives an element a tooltip.

    Args:
        theme: colours.
        sentence: HTML in which ``$x{name}`` stands for a text; Bokeh escapes each text.
        code: JavaScript that returns the texts by name. It can use the position ``x``, ``y``,
            ``own(column)`` for the value under the mouse, and ``number`` for a short decimal.
        about: further columns of the source that the code uses.
    """
    # A part of the tooltip, because style sheets of the page do not apply in its shadow root.
    style = (
        f":host {{ background: {theme.card}; color: {theme.text}; border: 1px solid {theme.line};"
        " border-radius: 8px; padding: 7px 10px; max-width: 270px; opacity: 1;"
        f" font: 12.5px/1.4 {FONT_STACK}; box-shadow: 0 4px 16px rgba(0, 0, 0, .2); }}"
        f" p {{ margin: 2px 0 0; color: {theme.quiet}; }} p:empty {{ display: none; }}"
        f" .a {{ color: {theme.parent_a}; }} .b {{ color: {theme.parent_b}; }}"
    )

    def hook(plot: Any, element: Any) -> None:
        if "tooltip" in plot.handles:
            return
        source = plot.handles["source"]
        source.data.update(about)
        texts = CustomJSHover(args={"source": source}, code=_CODE % code)
        tool = plot.handles["tooltip"] = HoverTool(
            renderers=[plot.handles["glyph_renderer"]],
            tooltips=f"<div>{sentence}</div><style>{style}</style>",
            formatters={"$x": texts},
            show_arrow=False,
            limit=1,
        )
        plot.state.add_tools(tool)

    return hook
