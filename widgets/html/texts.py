"""Texts from models and people, as HTML that shows them whatever they hold."""

from __future__ import annotations

from html import escape

from m2n2lab.core.task import Sample
from m2n2lab.utils.text import plain

LONGEST, LONGEST_ANSWER, LONGEST_TRANSCRIPT = 200, 80, 6_000
"""Characters of a question, of the truth or an answer, and of all that a model wrote."""

TEXTS_CSS = """
details { white-space: normal; }
summary { cursor: pointer; overflow-wrap: anywhere; }
details pre { max-height: 40vh; overflow: auto; margin: 4px 0; padding: 6px 8px; text-align: left;
              white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 4px;
              font: 11px/1.4 ui-monospace, monospace; background: rgba(128, 128, 128, .12); }
"""


def short(words: str, most: int = LONGEST_ANSWER) -> str:
    """Return a text as one line, and not too much of it."""
    return escape(plain(words, most))


def whole(words: str, most: int = LONGEST_TRANSCRIPT) -> str:
    """Return a text with its lines, and not too much of it; its middle is left out first."""
    if len(words) > most:
        words = f"{words[: most // 2]}\n…\n{words[-(most // 2) :]}"
    return "\n".join(escape(plain(line, most)) for line in words.splitlines())


def said(sample: Sample, who: str = "") -> str:
    """Return an answer, struck through where it is wrong; all of it opens where there is more.

    Args:
        sample: what was answered.
        who: the class that colours it; none by default.
    """
    tag = "b" if sample.right else "s"
    kind = f' class="{who}"' if who else ""
    answer = f"<{tag}{kind}>{short(sample.prediction)}</{tag}>"
    if sample.answer is None:
        return answer
    return f"<details{kind}><summary>{answer}</summary><pre>{whole(sample.answer)}</pre></details>"
