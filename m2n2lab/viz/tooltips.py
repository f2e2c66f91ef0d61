"""What a plot says of the place under the mouse, in words.

The words are made in the browser from the columns of the element's own source, so that a view
which refreshes these has refreshed the words too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bokeh.models import CustomJSHover, HoverTool

from m2n2lab.utils.text import plain
from m2n2lab.viz.fonts import LETTERS
from m2n2lab.viz.theme import Theme

LONGEST = 80
"""Characters of a name from outside that are shown."""

_CODE = """
const {x, y, index} = special_vars
const own = (name) => source.data[name][index]
const number = (value) => value >= 1 ? value.toFixed(1) : value.toPrecision(2)
const words = (() => {
  %s
})()
return words[format] ?? ""
"""


def short(names: Iterable[object]) -> list[str]:
    """Return names from outside as texts, cut where they are very long."""
    return [plain(str(name), LONGEST) for name in names]


def explained(theme: Theme, sentence: str, code: str, about: dict[str, Any]) -> Callable[..., None]:
    """Return a hook that lets an element say in words what the mouse is over.

    Args:
        theme: colours.
        sentence: HTML in which ``$x{name}`` stands for a text; Bokeh escapes each text.
        code: JavaScript that returns the texts by name. It knows the place ``x``, ``y``,
            ``own(column)`` of what is there, and ``number`` for a short decimal.
        about: columns of the source that it needs and that are not drawn.
    """
    # Inside the tooltip's shadow, where no page's style sheet reaches.
    style = (
        f":host {{ background: {theme.card}; color: {theme.text}; border: 1px solid {theme.line};"
        " border-radius: 8px; padding: 7px 10px; max-width: 270px; opacity: 1;"
        f" font: 12.5px/1.4 {LETTERS}; box-shadow: 0 4px 16px rgba(0, 0, 0, .2); }}"
        f" p {{ margin: 2px 0 0; color: {theme.quiet}; }} p:empty {{ display: none; }}"
        f" .a {{ color: {theme.parent_a}; }} .b {{ color: {theme.parent_b}; }}"
    )

    def hook(plot: Any, element: Any) -> None:
        if "explained" in plot.handles:
            return
        source = plot.handles["source"]
        source.data.update(about)
        words = CustomJSHover(args={"source": source}, code=_CODE % code)
        tool = plot.handles["explained"] = HoverTool(
            renderers=[plot.handles["glyph_renderer"]],
            tooltips=f"<div>{sentence}</div><style>{style}</style>",
            formatters={"$x": words},
            show_arrow=False,
            limit=1,
        )
        plot.state.add_tools(tool)

    return hook
