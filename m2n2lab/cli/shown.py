"""Text on a terminal: what comes from files is shown, never obeyed."""

from __future__ import annotations

from rich.text import Text

from m2n2lab.utils.text import visible


def shown(text: object, style: str = "", keep: str = "") -> Text:
    """Return a text with names from outside, without markup or characters that steer a terminal.

    Args:
        text: the text.
        style: its style.
        keep: such characters that stay: line ends of texts that have several lines.
    """
    return Text(visible(str(text), keep), style)
