"""Fonts: an embedded font for Japanese text on any machine, and paths of fonts of the system."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

OURS = Path(__file__).with_name("BIZUDPGothic-subset.ttf")
"""BIZ UDPGothic (SIL Open Font License), reduced to letters, kana and some 300 kanji."""

ABSENT = "\uffff"
"""A character that no font has: it is drawn as the glyph for missing characters."""

SYSTEM_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/opentype/ipaexfont-gothic/ipaexg.ttf",
    "/usr/share/fonts/truetype/fonts-japanese-gothic.ttf",
    "/System/Library/Fonts/ヒラギノ角ゴシック W3.ttc",
    "C:/Windows/Fonts/YuGothR.ttc",
    "C:/Windows/Fonts/meiryo.ttc",
    "C:/Windows/Fonts/msgothic.ttc",
)
"""Paths of Japanese fonts of operating systems, for kanji that the embedded font lacks."""


@cache
def _font(path: str, size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(path, size)


def covers(font: Any, text: str) -> bool:
    """Return whether a font has every character of a text."""
    missing = bytes(font.getmask(ABSENT))
    return all(char.isspace() or bytes(font.getmask(char)) != missing for char in set(text))


def font_for(text: str, size: int) -> Any:
    """Return a Pillow font for a text: the embedded one, or the system's if that lacks a letter."""
    embedded = _font(str(OURS), size)
    if covers(embedded, text):
        return embedded
    for path in filter(lambda path: Path(path).is_file(), SYSTEM_FONTS):
        if covers(found := _font(path, size), text):
            return found
    return embedded


FONT_FAMILY = "m2n2lab Japanese"
"""Name of the embedded font on pages."""

FONT_STACK = f"system-ui, '{FONT_FAMILY}', sans-serif"
"""Fonts of text that may be Japanese, as CSS and Bokeh name them."""


@cache
def font_face() -> str:
    """Return CSS with the embedded font for Japanese text, which needs no request."""
    data = base64.b64encode(OURS.read_bytes()).decode()
    return (
        f"@font-face {{ font-family: '{FONT_FAMILY}'; "
        f"src: url(data:font/ttf;base64,{data}) format('truetype'); "
        f"unicode-range: U+3000-30FF, U+4E00-9FFF, U+FF00-FFEF; }}"
    )
