"""Texts from models and people, as HTML that is safe whatever they hold."""

from __future__ import annotations

from html import escape

from m2n2lab.core.task import Sample
from m2n2lab.utils.text import plain

MAX_TEXT_CHARS, MAX_ANSWER_CHARS, MAX_TRANSCRIPT_CHARS = 200, 80, 6_000
"""Shown of a question, of the truth or an answer, and of all that a model wrote."""

TEXTS_CSS = """
details { white-space: normal; }
summary { cursor: pointer; overflow-wrap: anywhere; }
details pre { max-height: 40vh; overflow: auto; margin: 4px 0; padding: 6px 8px; text-align: left;
              white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 4px;
              font: 11px/1.4 ui-monospace, monospace; background: rgba(128, 128, 128, .12); }
"""


def short(text: str, max_chars: int = MAX_ANSWER_CHARS) -> str:
    """Return a text as one line, shortened."""
    return escape(plain(text, max_chars))


def whole(text: str, max_chars: int = MAX_TRANSCRIPT_CHARS) -> str:
    """Return a text with its lines; of a long one the middle is left out."""
    if len(text) > max_chars:
        text = f"{text[: max_chars // 2]}\n…\n{text[-(max_chars // 2) :]}"
    return "\n".join(escape(plain(line, max_chars)) for line in text.splitlines())


def answer_html(sample: Sample, css_class: str = "") -> str:
    """Return an answer, struck through if it is wrong; a long one opens in full.

    Args:
        sample: a data point with the answer.
        css_class: colours it; none by default.
    """
    tag = "b" if sample.right else "s"
    css = f' class="{css_class}"' if css_class else ""
    answer = f"<{tag}{css}>{short(sample.prediction)}</{tag}>"
    if sample.answer is None:
        return answer
    return f"<details{css}><summary>{answer}</summary><pre>{whole(sample.answer)}</pre></details>"
