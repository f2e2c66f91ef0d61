"""Notice: what the server has to say to the person before a page."""

from __future__ import annotations

from typing import ClassVar

from bokeh.events import DocumentEvent


class Notice(DocumentEvent):
    """An event of a page's document, made by the server.

    Args:
        sentence: what the page is to show; nothing if it is empty.
    """

    event_name: ClassVar[str] = "m2n2lab_notice"

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
