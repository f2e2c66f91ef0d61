"""Gallery view: members' pictures side by side, one of them enlarged, and a blind vote on two."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any, ClassVar

import numpy as np
import panel as pn
import param
from PIL import Image

from m2n2lab.tasks.images.text2image import Drawn
from m2n2lab.viz.fonts import FONT_STACK
from m2n2lab.viz.pictures import png_uri
from m2n2lab.viz.theme import Theme

from ..html.assets import asset
from ..html.texts import MAX_TEXT_CHARS, short
from ..session.blind_vote import Ballot
from ..session.gallery import GalleryData, GalleryRequest, Row
from ..session.snapshot import Snapshot
from ..views.styles import INLINE, SMALL
from ..views.themed import Themed, host_css

THUMBNAIL_PIXELS = 80
"""Side of the pictures in the table: twice their size on the page."""

_CSS = asset("members/gallery.css")
_LETTERS = {"letters": FONT_STACK}


class GalleryTable(Themed):
    """Pictures as buttons, of which one may be chosen."""

    _esm = asset("members/elements.js") + asset("members/gallery.js")
    _stylesheets: ClassVar = [_CSS]

    prompts = param.List(default=[], doc="What each column shows.")
    rows = param.List(default=[], doc="One dict for each member.")
    chosen = param.List(default=["", 0], doc="Row and column of the enlarged picture.")
    detail = param.Dict(default={}, doc="More about that: the whole picture, and the parents'.")


class GalleryView:
    """Pictures of members, for the task's prompts and a person's own.

    Args:
        theme: colours.
        requested: called with what is to be shown.
        voted: called with ``"left"``, ``"right"`` or, for another ballot, ``"ballot"``.
    """

    def __init__(
        self,
        theme: Theme,
        requested: Callable[[GalleryRequest], object],
        voted: Callable[[str], object],
    ) -> None:
        self._requested = requested
        self._voted = voted
        self._shown: tuple[object, ...] = ()
        self._thumbnails: dict[int, tuple[Drawn, str]] = {}
        self.table = GalleryTable.themed(theme, _LETTERS)
        html: dict[str, Any] = {
            "stylesheets": [_CSS, host_css(theme, **_LETTERS)],
            "margin": 0,
        }
        self._note = pn.pane.HTML("", **html)
        self._ballot = pn.pane.HTML("", **html)
        self.own = pn.widgets.TextInput(
            name="Your own prompt",
            placeholder="draw …",
            width=300,
            margin=0,
            stylesheets=[INLINE, f".bk-input {{ font-family: {FONT_STACK}; }}"],
        )
        small: dict[str, Any] = {"margin": (2, 6, 2, 0), "stylesheets": [SMALL]}
        self.ask = pn.widgets.Button(name="Choose blindly", **small)
        self.left = pn.widgets.Button(name="Left is better", visible=False, **small)
        self.right = pn.widgets.Button(name="Right is better", visible=False, **small)
        for button, vote in ((self.ask, "ballot"), (self.left, "left"), (self.right, "right")):
            button.on_click(partial(self._vote, vote))
        self.own.param.watch(lambda event: self._enlarge_own(), "value")
        self.table.param.watch(lambda event: self.request(), "chosen")
        self.pane = pn.Column(
            pn.FlexBox(self.own, self.ask, align_items="center", gap="4px 10px", margin=0),
            self._ballot,
            pn.Row(self.left, self.right, margin=0),
            self._note,
            self.table,
            margin=0,
        )

    def _vote(self, vote: str, event: object) -> None:
        self._voted(vote)

    def _enlarge_own(self) -> None:
        """Have a person's own prompt drawn, and enlarge the picture of the chosen member."""
        chosen = [self.table.chosen[0] or "child", 0] if (self.own.value or "").strip() else ["", 0]
        if chosen == self.table.chosen:
            self.request()
        else:
            self.table.chosen = chosen  # which requests it

    def request(self) -> None:
        """Request what is to be shown."""
        row, column = self.table.chosen
        self._requested(GalleryRequest(row, column, (self.own.value or "").strip()))

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data, ballot = snapshot.gallery, snapshot.ballot
        if (data, ballot) == self._shown:
            return
        self._shown = data, ballot
        self.left.visible = self.right.visible = ballot is not None and ballot.open
        self.ask.name = "Choose between two others" if ballot else "Choose blindly"
        self._ballot.object = "" if ballot is None else _ballot_html(ballot)
        if data is None:
            return
        self._note.object = f'<p role="alert">{escape(data.note)}</p>' if data.note else ""
        prompts = [prompt.text for prompt in data.prompts]
        rows = [self._describe(row, prompts) for row in data.rows]
        self.table.param.update(prompts=prompts, rows=rows, detail=_detail(data))
        kept = {id(drawn) for row in data.rows for drawn in row.drawn}
        self._thumbnails = {key: known for key, known in self._thumbnails.items() if key in kept}

    def _describe(self, row: Row, prompts: list[str]) -> dict[str, Any]:
        """Return what the table shows of a row."""
        pictures = [
            drawn
            and {
                "src": self._thumbnail(drawn),
                "score": _score(drawn),
                "label": f"{row.name} drew: {prompt}",
            }
            for drawn, prompt in zip(row.drawn, prompts, strict=True)
        ]
        return {"name": row.name, "kind": row.role, "pictures": pictures}

    def _thumbnail(self, drawn: Drawn) -> str:
        """Return a small picture as a data URI, made once."""
        known = self._thumbnails.get(id(drawn))
        if known is None:
            image = Image.fromarray(drawn.picture)
            image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))  # smaller ones stay as they are
            # Kept with the picture, so that its id is not reused.
            known = self._thumbnails[id(drawn)] = drawn, png_uri(np.asarray(image))
        return known[1]


def _score(drawn: Drawn) -> str:
    return "" if np.isnan(drawn.score) else f"{drawn.score:.2f}"


def _detail(data: GalleryData) -> dict[str, Any]:
    """Return what the browser does not know yet of the enlarged picture."""
    if data.at is None:
        return {}
    name, prompt = data.at
    row = next(row for row in data.rows if row.name == name)
    drawn = row.drawn[data.prompts.index(prompt)]
    return {
        "row": name,
        "prompt": prompt.text,
        "src": "" if drawn is None else png_uri(drawn.picture),
        "parents": [
            {"name": parent.name, "src": png_uri(each.picture), "score": _score(each)}
            if (each := parent.drawn[0])
            else {"name": parent.name}
            for parent in data.parents
        ],
        "words": data.origin,
    }


def _ballot_html(ballot: Ballot) -> str:
    """Return two pictures of unknown origin, and the outcome of the last vote."""
    pictures = "".join(
        f'<figure class="own"><img alt="{side}" src="{png_uri(picture)}"></figure>'
        for side, picture in (("left", ballot.left), ("right", ballot.right))
    )
    question = (
        f"<p>Which is better? <b>{short(ballot.prompt, MAX_TEXT_CHARS)}</b></p>"
        if ballot.open
        else ""
    )
    return (
        f'<div class="large" data-testid="ballot">{pictures}'
        f"<div>{question}<p>{escape(ballot.message)}</p></div></div>"
    )
