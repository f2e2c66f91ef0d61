"""Members: a table of the living that can be sorted, and a page of one member."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any, ClassVar

import numpy as np
import panel as pn
import param
from numpy.typing import NDArray

from m2n2lab.analysis.lineage import called
from m2n2lab.analysis.members import MemberPage, MembersData
from m2n2lab.core.task import Sample
from m2n2lab.utils.text import percent, plain
from m2n2lab.viz.pictures import sample_uri
from m2n2lab.viz.theme import Theme, ink, ramp

from ..html.assets import asset
from ..html.pictures import (
    KEY_CSS,
    css_variables,
    heat_uri,
    painting_uri,
    seeds_key,
    shares_label,
)
from ..html.texts import MAX_TEXT_CHARS, TEXTS_CSS, answer_html, short
from ..views.styles import FOCUS
from ..views.themed import Themed


class MembersTable(Themed):
    """A table of plain elements; the browser sorts it and sends which row was chosen."""

    _esm = asset("members/elements.js") + asset("members/members.js")
    _stylesheets: ClassVar = [asset("members/members.css")]

    rows = param.List(default=[], doc="One dict for each member, the fittest first.")
    selected = param.Integer(default=-1, doc="Id of the member that is chosen; -1 for none.")


class MembersView:
    """The living, by fitness; a click or Enter chooses a member.

    Args:
        theme: colours.
        select: called with the id of the member that was chosen.
    """

    def __init__(self, theme: Theme, select: Callable[[int], object]) -> None:
        self.theme = theme
        self.pane = MembersTable.themed(theme, sizing_mode="stretch_width")
        self._select = select
        self._shown: MembersData | None = None
        self._marked = -1
        # What never changes of a member; not by its id alone, which is reused when a merge is
        # undone.
        self._fixed: dict[tuple[object, ...], dict[str, Any]] = {}
        self.pane.param.watch(lambda event: self._chosen(event.new), "selected")

    def update(self, data: MembersData | None) -> None:
        """Show other members; the chosen one stays chosen."""
        if data is None or data is self._shown:
            return
        self._shown = data
        rows: list[dict[str, Any]] = []
        fixed: dict[tuple[object, ...], dict[str, Any]] = {}
        for k, id in enumerate(data.ids):
            key = id, data.pinned[k], float(data.score[k]), data.painting[k].tobytes()
            fixed[key] = self._fixed.get(key) or self._describe(data, k)
            changing = {"fitness": float(data.fitness[k]), "alone": float(data.alone[k])}
            rows.append({**fixed[key], **changing})
        self._fixed = fixed
        self.pane.rows = rows

    def clear(self) -> None:
        """Show nobody: those shown are of another search."""
        self._shown, self._fixed, self.pane.rows = None, {}, []

    def choose(self, id: int | None) -> None:
        """Mark a member that was chosen elsewhere, or none."""
        self._marked = -1 if id is None else id
        self.pane.selected = self._marked

    def _chosen(self, id: int) -> None:
        if id != self._marked:
            self._marked = id
            self._select(id)

    def _describe(self, data: MembersData, k: int) -> dict[str, Any]:
        """Return what the table shows of a member that never changes."""
        painting, accuracy = data.painting[k], data.accuracy[k]
        known = accuracy[~np.isnan(accuracy)]
        scores = ", ".join(
            f"{plain(name, MAX_TEXT_CHARS)} {percent(value)}"
            for name, value in zip(data.classes, accuracy.tolist(), strict=True)
        )
        return {
            "id": data.ids[k],
            "name": called(data.ids[k], data.seeds[:-1]),
            "by_hand": data.by_hand[k],
            "pinned": data.pinned[k],
            "born": data.born[k],
            "parents": list(data.parents[k]),
            "pair": " × ".join(called(id, data.seeds[:-1]) for id in data.parents[k]),
            "score": float(data.score[k]),
            "painting": painting_uri(painting, self.theme),
            "made": shares_label(painting, data.seeds),
            "share": float(painting[:, 0].mean()),
            "classes": heat_uri(accuracy, self.theme),
            "scores": scores,
            "worst": float(known.min()) if len(known) else -1.0,
        }


PIN, UNPIN = "Pin this member", "Unpin this member"

MAX_CONFUSION_CLASSES = 24
"""Classes up to which a confusion matrix is shown as a table."""

_PAGE_CSS = """
.page { display: grid; gap: 8px 28px; align-items: start; color: var(--text);
        grid-template-columns: minmax(0, 1fr) minmax(0, 1fr);
        font: 12px/1.35 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.page h3 { font-size: 14px; margin: 0; }
.page h3 span, .page p { font-weight: 400; color: var(--quiet); }
.page p { margin: 3px 0 0; }
.page h4 { font-size: 12px; margin: 0 0 4px; }
.page .painting { display: block; width: 100%; height: 20px; image-rendering: pixelated;
                  border-radius: 3px; }
.page .bars { display: grid; grid-template-columns: minmax(10px, auto) 1fr auto; gap: 1px 8px;
              align-items: center; }
.page .name { max-width: 90px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.page .bar { position: relative; height: 11px; background: var(--track); border-radius: 2px; }
.page .bar b { display: block; height: 100%; background: var(--bar); border-radius: 2px; }
.page .bar i { position: absolute; top: -2px; bottom: -2px; width: 2px; margin-left: -1px;
               background: var(--text); }
.page .value { text-align: right; white-space: nowrap; }
.page table { border-collapse: separate; border-spacing: 1px; font-size: 10.5px; }
.page table th { font-weight: 400; color: var(--quiet); padding: 0 4px; max-width: 60px;
                 overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.page table td { min-width: 20px; height: 15px; padding: 0 2px; text-align: center;
                 border-radius: 2px; }
.page .row { display: flex; flex-wrap: wrap; gap: 5px; }
.page .row div { width: 44px; padding: 4px 2px; text-align: center; font-weight: 600;
                 border: 1px solid var(--line); border-radius: 6px; overflow-wrap: anywhere; }
.page .row .long { width: auto; max-width: 30ch; padding: 4px 8px; font-weight: 400;
                   text-align: left; }
.page .row img { display: block; width: 32px; height: 32px; margin: 0 auto 2px;
                 image-rendering: pixelated; border-radius: 2px; }
.page s { color: var(--quiet); font-weight: 400; }
@media (max-width: 900px) {
  .page { grid-template-columns: minmax(0, 1fr); }
}
"""


class MemberView:
    """The page of one member: its origin, its scores, and examples of its answers.

    Args:
        theme: colours.
        order: called with ``"save"``, ``"pin"`` or ``"unpin"`` and the member's id.
    """

    def __init__(self, theme: Theme, order: Callable[[str, int], None]) -> None:
        self.theme = theme
        self._ramp = ramp(theme)
        self._id = 0  # of the member that is shown
        self._pinned = False
        close: dict[str, Any] = {"margin": (0, 6, 6, 0), "visible": False, "stylesheets": [FOCUS]}
        self.save = pn.widgets.Button(name="Save this member", width=140, **close)
        self.pin = pn.widgets.Button(name=PIN, width=140, **close)
        self.save.on_click(lambda event: order("save", self._id))
        self.pin.on_click(lambda event: order("unpin" if self._pinned else "pin", self._id))
        colours = css_variables(theme, track=theme.ramp[1], bar=theme.ramp[4])
        self._text = pn.pane.HTML(
            "",
            stylesheets=[f"{KEY_CSS} {_PAGE_CSS} {TEXTS_CSS} .page {{ {colours} }}"],
            sizing_mode="stretch_width",
            margin=0,
        )
        buttons = pn.Row(self.save, self.pin, margin=0, styles={"flex-wrap": "wrap"})
        self.pane = pn.Column(buttons, self._text, sizing_mode="stretch_width", margin=0)
        self.update(None)

    def update(self, page: MemberPage | None) -> None:
        """Show another member."""
        if page is None:
            parts = ["<p>Click a member in the table, or a life in the lineage.</p>"]
        else:
            parts = [self._head(page), self._made(page), self._bars(page)]
            parts += [self._confusion(page), *self._samples(page)]
            self._id = page.life.id
        alive = page is not None and page.alive
        self._pinned = page is not None and page.pinned
        self.save.visible = alive
        self.pin.param.update(visible=alive, name=UNPIN if self._pinned else PIN)
        self._text.object = f'<div class="page" data-testid="member">{"".join(parts)}</div>'

    def _head(self, page: MemberPage) -> str:
        life = page.life
        seeds = page.seeds[:-1]
        name = f"the seed {escape(seeds[life.id])}" if 0 <= life.id < len(seeds) else "a seed"
        facts = [f"born at step {life.born:,}" if life.born else name]
        if life.parents:
            facts.append("from " + " × ".join(escape(called(id, seeds)) for id in life.parents))
        if life.split is not None and life.mix is not None:
            facts.append(f"split at {life.split:,}, mix {life.mix:.2f}")
        if life.by_hand:
            facts.append("made by hand" if life.parents else "from outside")
        facts.append(f"score {percent(life.score)}")
        if page.alive and page.fitness is not None:
            place = f"rank {page.rank} of {page.of}, fitness {page.fitness:.1f}"
            place += ", pinned" if page.pinned else ""
        else:
            place = f"died at step {life.died:,}: its weights are gone" if life.died else ""
        return f"<div><h3>{life.id} <span>{place}</span></h3><p>{', '.join(facts)}</p></div>"

    def _made(self, page: MemberPage) -> str:
        label = escape(shares_label(page.painting, page.seeds))
        note = "" if page.alive else " (of the dead only the mean is kept)"
        return (
            f"<div><h4>Made of{note}</h4>"
            f'<img class="painting" alt="{label}" src="{painting_uri(page.painting, self.theme)}">'
            f"<p>{seeds_key(page.painting.mean(axis=0), page.seeds, self.theme)}</p></div>"
        )

    def _bars(self, page: MemberPage) -> str:
        """Return the score in each class: a bar, and a mark for held-out data."""
        if page.accuracy is None:
            return ""
        held_out = [math.nan] * len(page.classes) if page.held_out is None else page.held_out
        rows = []
        for name, value, held in zip(page.classes, page.accuracy, held_out, strict=True):
            mark = "" if math.isnan(held) else f'<i style="left:{100 * held:.1f}%"></i>'
            width = 0.0 if math.isnan(value) else 100 * float(value)
            text = percent(float(value)) + ("" if math.isnan(held) else f" | {percent(held)}")
            label = short(name, MAX_TEXT_CHARS)
            rows.append(
                f'<span class="name" title="{label}">{label}</span>'
                f'<span class="bar"><b style="width:{width:.1f}%"></b>{mark}</span>'
                f'<span class="value">{text}</span>'
            )
        title = "Score by class" + ("" if page.held_out is None else " | held out")
        return f'<div><h4>{title}</h4><div class="bars">{"".join(rows)}</div></div>'

    def _confusion(self, page: MemberPage) -> str:
        """Return the confusion matrix, a row for each true class."""
        table = page.confusion
        if table is None or len(table) > MAX_CONFUSION_CLASSES:
            return ""
        head = "".join(
            f'<th scope="col">{short(name, MAX_TEXT_CHARS)}</th>' for name in page.classes
        )
        rows = "".join(
            f'<tr><th scope="row">{short(name, MAX_TEXT_CHARS)}</th>{self._cells(counts)}</tr>'
            for name, counts in zip(page.classes, table, strict=True)
        )
        return (
            "<div><h4>Confusion: a row for each true class, a column for each answer</h4>"
            f'<table><thead><tr><th scope="col">truth</th>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )

    def _cells(self, counts: NDArray[np.int64]) -> str:
        cells = []
        for count in counts.tolist():
            share = count / max(int(counts.sum()), 1)
            colour = self._ramp[round(share * (len(self._ramp) - 1))]
            text = ink(colour)
            cells.append(f'<td style="background:{colour};color:{text}">{count or ""}</td>')
        return "".join(cells)

    def _samples(self, page: MemberPage) -> list[str]:
        """Return some right answers and some wrong ones."""
        return [
            f'<div><h4>{title}</h4><div class="row">{"".join(map(self._sample, some))}</div></div>'
            for title, some in (("Right", page.right), ("Wrong", page.wrong))
            if some
        ]

    def _sample(self, sample: Sample) -> str:
        picture = ""
        if sample.image is not None:
            uri = sample_uri(sample.image, self.theme.name == "dark")
            picture = f'<img alt="data point {int(sample.index)}" src="{uri}">'
        question = "" if sample.text is None else f"{short(sample.text, MAX_TEXT_CHARS)}<br>"
        answer = "" if sample.right and sample.answer is None else f" {answer_html(sample)}"
        css = "" if sample.image is not None else ' class="long"'
        return f"<div{css}>{picture}{question}{short(sample.truth)}{answer}</div>"
