"""Rich displays for notebooks: plain HTML in which every text is escaped."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver

SHOWN = 20
"""Rows of a table that are shown."""


def percent(value: float) -> str:
    """Return a share as ``71.1 %``, or a dash where it is not known."""
    return "–" if math.isnan(value) else f"{value:.1%}".replace("%", " %")


def plain(text: str, most: int) -> str:
    """Return a text from outside as one line of at most ``most`` characters.

    A long one loses its middle; what steers a terminal is shown as a mark. It is not escaped.
    """
    if len(text) > most:
        end = (most - 1) // 2
        text = f"{text[: most - 1 - end]}…{text[len(text) - end :]}"
    line = (" " if sign.isspace() else sign for sign in text)
    return "".join("�" if unicodedata.category(sign) == "Cc" else sign for sign in line)


def table_html(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table of escaped texts."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def evolver_html(evolver: Evolver) -> str:
    """Return where a search stands: key figures, and its members by fitness."""
    archive = evolver.archive
    figures = table_html(
        ("method", "task", "step", "best, train", "best, held out", "covered", "entropy"),
        [
            (
                evolver.method,
                evolver.task.name,
                f"{evolver.generation:,}",
                percent(archive.best.score),
                percent(evolver.test),
                percent(archive.coverage),
                f"{archive.entropy:.2f} bit",
            )
        ],
    )
    ranked = sorted(
        zip(archive.members, archive.fitness.tolist(), strict=True), key=lambda pair: -pair[1]
    )
    members = table_html(
        ("member", "born", "parents", "fitness", "score"),
        [
            (m.id, m.born, " × ".join(map(str, m.parents)) or "–", f"{f:.1f}", percent(m.score))
            for m, f in ranked[:SHOWN]
        ],
    )
    more = f"<p>… and {len(ranked) - SHOWN} more</p>" if len(ranked) > SHOWN else ""
    return f"<div>{figures}{members}{more}</div>"
