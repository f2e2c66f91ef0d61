"""Contact sheet: images of several members side by side, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2n2lab.viz.fonts import font_for

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.tasks.images.one_of_n import Choice
    from m2n2lab.tasks.images.text2image import Drawn

CELL, GAP, HEAD, SIDE = 96, 8, 66, 144
"""Pixels: side of an image, gap between images, space above them, and space left of them."""

PAPER, INK, QUIET = "#ffffff", "#1d1d1f", "#6b6b70"


class Row(NamedTuple):
    """One member's images.

    Attributes:
        name: the member's name.
        drawn: its images, one for each column.
    """

    name: str
    drawn: Sequence[Drawn]


def draw_sheet(rows: Sequence[Row]) -> bytes:
    """Return members' images for the same prompts as a PNG, each with its score.

    Args:
        rows: one or more rows of the same length.
    """
    from PIL import Image, ImageDraw

    columns = len(rows[0].drawn)
    size = (SIDE + columns * (CELL + GAP), HEAD + len(rows) * (CELL + 22) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, drawn in enumerate(rows[0].drawn):
        x = SIDE + column * (CELL + GAP)
        write(pen, x, GAP, drawn.prompt.text, 12, INK)
    for line, row in enumerate(rows):
        y = HEAD + line * (CELL + 22)
        write(pen, GAP, y + CELL // 3, row.name, 13, INK, SIDE - 2 * GAP)
        for column, drawn in enumerate(row.drawn):
            x = SIDE + column * (CELL + GAP)
            resampling = Image.Resampling.NEAREST
            if drawn.picture.shape[1] > CELL:
                resampling = Image.Resampling.LANCZOS
            sheet.paste(Image.fromarray(drawn.picture).resize((CELL, CELL), resampling), (x, y))
            pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), outline="#c8c8cc")
            if not np.isnan(drawn.score):
                score = f"{drawn.score:.2f} {drawn.flaw.partition(':')[0].partition(',')[0]}"
                write(pen, x, y + CELL + 2, score.strip(), 11, QUIET)
    file = io.BytesIO()
    sheet.quantize(128).save(file, "PNG", optimize=True)
    return file.getvalue()


def draw_choice(choice: Choice) -> bytes:
    """Return pictures to choose from as a PNG: side by side below their prompt, with numbers."""
    from PIL import Image, ImageDraw

    height, width = choice.pictures[0].shape[:2]
    scale = max(CELL / min(height, width), 1.0)
    width, height = round(width * scale), round(height * scale)
    size = (GAP + len(choice.pictures) * (width + GAP), 2 * GAP + 36 + height + 24)
    paper = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(paper)
    write(pen, GAP, GAP, choice.prompt.text, 14, INK, size[0] - 2 * GAP, 2)
    for number, picture in enumerate(choice.pictures):
        x, y = GAP + number * (width + GAP), GAP + 36
        resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        paper.paste(Image.fromarray(picture).resize((width, height), resampling), (x, y))
        write(pen, x, y + height + 3, str(number + 1), 15, INK, width, 1)
    file = io.BytesIO()
    paper.save(file, "PNG", optimize=True)
    return file.getvalue()


def write(
    pen: Any, x: int, y: int, text: str, size: int, ink: str, width: int = CELL, lines: int = 4
) -> None:
    """Write a text in a picture, in lines that are broken at spaces or, in Japanese, anywhere."""
    font = font_for(text, size)
    pieces = [f"{word} " for word in text.split(" ")] if " " in text else list(text)
    rows, row = [], ""
    for piece in pieces:
        if row and pen.textlength((row + piece).rstrip(), font=font) > width:
            rows.append(row)
            row = ""
        row += piece
    rows.append(row)
    if len(rows) > lines:
        rows = [*rows[: lines - 1], rows[lines - 1].rstrip()[:-1] + "…"]
    for line, row in enumerate(rows):
        pen.text((x, y + line * (size + 2)), row.rstrip(), font=font, fill=ink)


def sheet_of(evolver: Evolver, many: int = 4) -> bytes:
    """Return a sheet of a search over image pipelines: the seeds above, the best member below.

    Args:
        evolver: a search on an image task.
        many: number of prompts in each language.
    """
    task: Any = evolver.task
    space: Any = evolver.space
    prompts = task.exhibits(many)
    models = list(zip(space.names, space.seeds, strict=True))
    best = evolver.best
    title = next(
        (f"best: the seed {name}" for name, genome in models if genome == best.genome),
        f"best, merged: member {best.id}",
    )
    models.append((title, best.genome))
    return draw_sheet(
        [Row(name, task.draw(space.materialise(genome), prompts)) for name, genome in models]
    )
