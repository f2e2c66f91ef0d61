"""Page template: the frame that Panel fills with the page's views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import panel as pn
from panel.links import Callback

from m2n2lab.viz.fonts import font_face
from m2n2lab.viz.theme import Theme

from ..html.assets import asset
from ..html.pictures import css_variables

_SCRIPTS = ("page/page", "views/cells", "page/save_plot", "page/panels")


class PageTemplate(pn.Template):
    """The dashboard's frame.

    Args:
        theme: colours.
        session_key: of the browser session that the page finds again when it is reloaded; empty
            for a shared one.
        panels: what goes into the frame, by its names there.
    """

    def __init__(self, theme: Theme, session_key: str, panels: Mapping[str, Any]) -> None:
        super().__init__(asset("page/page.html"))
        self.add_variable("theme", theme)
        # What the strongest colours are called: the ramp begins at the background.
        self.add_variable("strong", "darker" if theme.name == "light" else "lighter")
        self.add_variable("other", "dark" if theme.name == "light" else "light")
        self.add_variable("colours", css_variables(theme))
        self.add_variable("session_key", session_key)
        css = (font_face(), asset("page/page.css"), asset("page/panels.css"))
        self.add_variable("css", "\n".join(css))
        self.add_variable("scripts", [asset(f"{name}.js") for name in _SCRIPTS])
        for name, panel in panels.items():
            self.add_panel(name, panel)

    def __repr__(self) -> str:
        """Return a short text: Panel asks for each panel, and spelling out all takes 0.4 s."""
        return f"{type(self).__name__}({', '.join(self._render_items)})"

    def _init_doc(self, doc: Any = None, *args: Any, **named: Any) -> Any:
        # Or Bokeh would go through all models again for every panel that is added.
        document = doc or pn.state.curdoc
        if document is None:
            return super()._init_doc(doc, *args, **named)
        with document.models.freeze():
            return super()._init_doc(document, *args, **named)


def forget_scripts(panels: Iterable[Any]) -> None:
    """Forget the scripts of widgets on a page that is gone.

    Panel keeps them in a dictionary with weak keys. A script whose arguments lead back to its
    widget, as those of most do, would keep the widget, and with it the whole page.
    """
    for panel in panels:
        for part in panel.select():
            Callback.registry.pop(part, None)
