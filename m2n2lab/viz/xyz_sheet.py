"""XYZ sheet: pictures of merges of two models over two axes, from the same noise in every cell."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2n2lab.core.operators import Blocks, Crossover, Slerp
from m2n2lab.core.operators.blocks import blocks_of
from m2n2lab.core.operators.parts import crossover_rng
from m2n2lab.core.records import Proposal
from m2n2lab.tasks.images.diffusion import Painter, Prompt, checked_prompt
from m2n2lab.tasks.images.text2image import check_pipelines, shrunk
from m2n2lab.utils.arrays import Bytes
from m2n2lab.utils.errors import InputError, real_number, whole_number
from m2n2lab.utils.progress import Meter, Watch
from m2n2lab.viz.contact_sheet import GAP, INK, PAPER, QUIET, write

if TYPE_CHECKING:
    from m2n2lab.checkpoint import CheckpointSpace

MAX_VALUES = 100
"""Most values along an axis."""

MIN_CELL = 96
"""Pixels of the shorter side of a picture on the sheet; smaller ones are enlarged."""

SIDE, TITLE, PROMPT, LABEL = 100, 26, 34, 30
"""Pixels: space left of the pictures, and above them for a title, a prompt and the x axis."""

FREE = ("mix", "split", "guidance", "seed")
"""What an axis can vary beside blocks."""


@dataclass(frozen=True)
class Axis:
    """What varies along one side of a sheet, and its values.

    ::

        Axis("mix", (0, 0.5, 1))
        Axis.of("split=0:1:5")
        Axis.of("OUT00-OUT05=0,0.3,0.6")

    Args:
        name: ``"mix"`` or ``"split"`` in [0, 1], ``"guidance"``, ``"seed"`` of the noise, or a
            block or range of blocks as ``Blocks`` names them, whose share of B varies.
        values: one or more.

    Raises:
        InputError: there is no such thing, or a value is out of bounds.
    """

    name: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.values) <= MAX_VALUES:
            raise InputError(
                f"An axis must have 1 to {MAX_VALUES} values, got {len(self.values)}; give some, "
                f"such as mix=0:1:5."
            )
        for value in self.values:
            if self.name in ("mix", "split"):
                real_number(self.name, value, 0.0, 1.0)
            elif self.name == "seed":
                whole_number("seed", int(value) if float(value).is_integer() else value, 0)
            elif self.name == "guidance":
                Painter(guidance=value)
            else:
                Blocks(f"{self.name}={value}")

    @classmethod
    def of(cls, text: str) -> Axis:
        """Return the axis of a text such as ``mix=0:1:5``, first, last and number, or ``mix=0,1``.

        Raises:
            InputError: it is written otherwise.
        """
        name, equals, values = (part.strip() for part in text.partition("="))
        try:
            if ":" in values:
                first, last, count = values.split(":")
                many = np.linspace(float(first), float(last), int(count)).round(10).tolist()
            else:
                many = [float(value) for value in values.split(",")]
        except ValueError:
            equals = ""
        if not equals or not name:
            raise InputError(
                f"An axis must be NAME=FIRST:LAST:COUNT or NAME=VALUE,VALUE, got {text!r}; write, "
                f"for example, mix=0:1:5, split=0,0.5,1, OUT00-OUT05=0:1:3, guidance=3,7 or "
                f"seed=1,2,3."
            )
        lower = name.lower()
        return cls(lower if lower in FREE else name, tuple(many))

    def label(self, place: int) -> str:
        """Return the text beside a column or row."""
        return f"{self.name} {self.values[place]:g}"


class Cell(NamedTuple):
    """The pictures of one place of a sheet.

    Attributes:
        column: its place along x.
        row: its place along y.
        pictures: (H, W, 3) red, green and blue in 0..255, for each prompt.
    """

    column: int
    row: int
    pictures: list[Bytes]


@dataclass(frozen=True)
class Sheet:
    """What an XYZ sheet shows: merges of models A and B, prompts, and how they are drawn.

    ::

        sheet = Sheet(Axis.of("mix=0:1:5"), Axis.of("split=0:1:5"), [Prompt("a cat")])
        Path("sheet.png").write_bytes(sheet.png(sheet.cells(space)))

    Args:
        x: what varies from left to right.
        y: what varies from top to bottom, if anything does.
        prompts: prompts, one below the other: the third axis.
        mix: share of B before the split, where no axis varies it.
        split: split as a fraction of the vector, where no axis varies it; 1 is none.
        blocks: weights of blocks as for ``Blocks``; an axis overrides its own.
        painter: steps, size and other options of drawing.

    Raises:
        InputError: both axes are one, there is no prompt, or a number is out of bounds.
    """

    x: Axis
    y: Axis | None
    prompts: Sequence[Prompt]
    mix: float = 0.5
    split: float = 1.0
    blocks: str = ""
    painter: Painter = field(default_factory=Painter)

    def __post_init__(self) -> None:
        if self.y is not None and self.x.name.upper() == self.y.name.upper():
            raise InputError(
                f"x and y must vary different things, got {self.x.name} twice; change one of them."
            )
        if not self.prompts:
            raise InputError("A sheet must have a prompt, got none; write some.")
        for prompt in self.prompts:
            checked_prompt(prompt.text)
        real_number("mix", self.mix, 0.0, 1.0)
        real_number("split", self.split, 0.0, 1.0)
        Blocks(self.blocks)

    @property
    def columns(self) -> int:
        """Number of cells from left to right."""
        return len(self.x.values)

    @property
    def rows(self) -> int:
        """Number of cells from top to bottom."""
        return 1 if self.y is None else len(self.y.values)

    def cells(self, space: CheckpointSpace, watch: Watch | None = None) -> Iterator[Cell]:
        """Yield the cells one after the other; the weights of one merge are kept at a time.

        Args:
            space: a space whose first two seeds are A and B, pipelines of diffusers.
            watch: follows the pictures, and can stop them within a denoising step.

        Raises:
            Halted: it was stopped; cells before that were yielded.
            InputError: the seeds do not draw, or have none of the blocks of an axis.
        """
        check_pipelines(space)
        merges: dict[tuple[Crossover, Proposal], list[tuple[int, int]]] = {}
        for column in range(self.columns):
            for row in range(self.rows):
                made = self._merge(space, self._values(column, row))
                merges.setdefault(made, []).append((column, row))
        watch = watch or Watch()
        meter = Meter(watch, self.columns * self.rows * len(self.prompts), "picture")
        a, b, *_ = space.seeds
        for (rule, proposal), places in merges.items():
            model = space.materialise(rule(a, b, proposal, space, crossover_rng(proposal)))
            for place in places:
                yield Cell(*place, self._drawn(model, self._values(*place), watch, meter))

    def png(self, cells: Sequence[Cell] | Iterator[Cell], title: str = "") -> bytes:
        """Return the sheet of these cells as a PNG; places of others stay empty.

        Args:
            cells: those that were drawn.
            title: a line above all.
        """
        from PIL import Image, ImageDraw

        found = list(cells)
        height, width = found[0].pictures[0].shape[:2] if found else (MIN_CELL, MIN_CELL)
        scale = max(MIN_CELL / min(height, width), 1.0)
        width, height = round(width * scale), round(height * scale)
        top = TITLE if title else GAP
        panel = PROMPT + LABEL + self.rows * (height + GAP)
        size = (SIDE + self.columns * (width + GAP), top + len(self.prompts) * panel)
        paper = Image.new("RGB", size, PAPER)
        pen = ImageDraw.Draw(paper)
        write(pen, GAP, 4, title, 13, INK, size[0] - 2 * GAP, 1)
        for number, prompt in enumerate(self.prompts):
            y = top + number * panel
            write(pen, SIDE, y, prompt.text, 13, INK, size[0] - SIDE - GAP, 2)
            for column in range(self.columns):
                x = SIDE + column * (width + GAP)
                write(pen, x, y + PROMPT, self.x.label(column), 12, QUIET, width, 2)
            for row in range(self.rows if self.y else 0):
                at = y + PROMPT + LABEL + row * (height + GAP) + height // 2 - 8
                assert self.y is not None
                write(pen, GAP, at, self.y.label(row), 12, QUIET, SIDE - 2 * GAP, 2)
            for column, row, pictures in found:
                nearest = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
                image = Image.fromarray(pictures[number]).resize((width, height), nearest)
                place = SIDE + column * (width + GAP), y + PROMPT + LABEL + row * (height + GAP)
                paper.paste(image, place)
        file = io.BytesIO()
        paper.save(file, "PNG", optimize=True)
        return file.getvalue()

    def _values(self, column: int, row: int) -> dict[str, float]:
        """Return what the axes set in a cell."""
        own = {self.x.name: self.x.values[column]}
        return own if self.y is None else {**own, self.y.name: self.y.values[row]}

    def _merge(
        self, space: CheckpointSpace, values: dict[str, float]
    ) -> tuple[Crossover, Proposal]:
        """Return the merge of a cell, after checking its blocks."""
        split = round(values.get("split", self.split) * space.size)
        proposal = Proposal((0, 1), split, values.get("mix", self.mix), 0)
        own = [f"{name}={value}" for name, value in values.items() if name not in FREE]
        weights = ",".join([*filter(None, [self.blocks]), *own])
        if not weights:
            return Slerp(), proposal
        rule = Blocks(weights)
        rule.by_block(blocks_of(list(space.layout.shapes)))
        return rule, proposal

    def _drawn(
        self, model: Any, values: dict[str, float], watch: Watch, meter: Meter
    ) -> list[Bytes]:
        """Return a model's pictures for all prompts."""
        pictures: list[Bytes] = []
        painter = self._painter(values)
        for batch in painter.batches(model, self._asked(values), watch, meter.step):
            pictures += map(shrunk, batch.pictures)
            meter.add(len(batch.indices), 0)
        return pictures

    def _painter(self, values: dict[str, float]) -> Painter:
        if "guidance" not in values:
            return self.painter
        own = vars(self.painter) | {"guidance": values["guidance"]}
        return Painter(**own)

    def _asked(self, values: dict[str, float]) -> list[Prompt]:
        """Return the prompts with the noise of a cell."""
        if "seed" not in values:
            return list(self.prompts)
        return [prompt._replace(noise=int(values["seed"])) for prompt in self.prompts]
