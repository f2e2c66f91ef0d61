"""Answers of A, B and the child, as HTML."""

from __future__ import annotations

import numpy as np

from m2n2lab.core.task import Sample
from m2n2lab.viz.fonts import FONT_STACK
from m2n2lab.viz.pictures import sample_uri

from ..session.snapshot import Snapshot
from ..session.workbench import Answer
from .texts import MAX_TEXT_CHARS, TEXTS_CSS, answer_html, short

ANSWERS_CSS = (
    f".answers {{ --letters: {FONT_STACK}; }}"
    """
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(62px, 1fr)); gap: 8px;
           font: 600 12px var(--letters); text-align: center; }
.answers img { width: 40px; height: 40px; image-rendering: pixelated; display: block;
               margin: 0 auto 4px; }
.answers div { border: 1px solid rgba(128, 128, 128, .3); border-radius: 6px; padding: 5px 2px;
               overflow-wrap: anywhere; }
.answers .a { color: var(--parent_a); }
.answers .b { color: var(--parent_b); }
.answers .child { color: var(--child); }
.answers .drawn :is(summary, p) { display: flex; gap: 4px; margin: 0; }
.answers .drawn img { width: 50px; height: 50px; margin: 0 0 4px; border-bottom: 4px solid; }
.answers div:has(> .drawn[open]) { grid-column: 1 / -1; }
.answers .drawn p img { width: min(30%, 256px); height: auto; }
.answers .drawn[open] summary img { width: 20px; height: 20px; }
.answers s { font-weight: 400; opacity: .75; }
.answers.long { grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); }
.answers.long div { padding: 5px 8px; font-weight: 400; text-align: left; }
.answers dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0 8px;
              margin: 4px 0 0; }
.answers dt { color: var(--quiet); }
.answers dd { margin: 0; font-weight: 600; }
.answers dd > details > summary { list-style-position: outside; }
.answers p { grid-column: 1 / -1; margin: 4px; font-weight: 400; text-align: left;
             color: var(--quiet); }
.count { font: 12px system-ui, sans-serif; color: var(--quiet); white-space: nowrap; }
""" + TEXTS_CSS
)


def answers_html(snapshot: Snapshot, dark: bool = False) -> str:
    """Return data points with the truth and the three answers; wrong ones are struck through.

    Args:
        snapshot: its answers are shown.
        dark: whether pictures stand on a dark page.
    """
    answers = snapshot.answers
    cells = "".join(_cell(answer, dark) for answer in answers)
    if not cells and snapshot.bench is not None:
        none = "There are no such data points."
        cells = f"<p>{'The task has no samples to show.' if snapshot.matching else none}</p>"
    texts = any(answer.child.text is not None for answer in answers)
    css = "answers long" if texts else "answers"
    return f'<div class="{css}" data-testid="answers">{cells}</div>'


def _cell(answer: Answer, dark: bool) -> str:
    sample = answer.child
    names = ("a", "b", "child")
    drawn = [getattr(answer, name).image for name in names]
    if any(image is None for image in drawn) or all(np.array_equal(drawn[2], i) for i in drawn):
        picture = _picture(sample, dark)
    else:  # each has drawn a picture of its own
        own = "".join(_picture(getattr(answer, name), dark, name) for name in names)
        picture = f'<details class="drawn"><summary>{own}</summary><p>{own}</p></details>'
    if sample.text is not None:
        answers = "".join(
            f'<dt class="{name}">{name if name == "child" else name.upper()}</dt>'
            f"<dd>{answer_html(getattr(answer, name), name)}</dd>"
            for name in names
        )
        text = short(sample.text, MAX_TEXT_CHARS)
        truth = f"<dt>truth</dt><dd>{short(sample.truth)}</dd>"
        return f"<div>{picture}{text}<dl>{truth}{answers}</dl></div>"
    answers = " ".join(answer_html(getattr(answer, name), name) for name in names)
    return f"<div>{picture}{short(sample.truth)} {answers}</div>"


def _picture(sample: Sample, dark: bool, model: str = "") -> str:
    """Return a data point's picture, or what one of the three models drew."""
    if sample.image is None:
        return ""
    classes = " ".join(filter(None, ("grey" if sample.image.ndim == 2 else "", model)))
    name = f"{model if model == 'child' else model.upper()} drew" if model else ""
    css = f' class="{classes}"' if classes else ""
    return f'<img{css} alt="{name}" src="{sample_uri(sample.image, dark)}">'
