"""Themed components: their style sheets have a theme's colours as CSS variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from panel.custom import AnyWidgetComponent

from m2n2lab.viz.theme import Theme

from ..html.pictures import css_variables

if TYPE_CHECKING:
    from typing_extensions import Self


def host_css(theme: Theme, **more: str) -> str:
    """Return a style sheet with a theme's colours, and more variables, for a part of the page."""
    return f":host {{ {css_variables(theme, **more)} }}"


class Themed(AnyWidgetComponent):
    """A component in the colours of a theme."""

    @classmethod
    def themed(cls, theme: Theme, letters: dict[str, str] | None = None, **options: Any) -> Self:
        """Return one; ``letters`` are further CSS variables, ``options`` Panel's parameters."""
        sheets = [*cls._stylesheets, host_css(theme, **(letters or {}))]
        return cls(stylesheets=sheets, **{"margin": 0, **options})
