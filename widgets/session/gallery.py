"""Pictures of members side by side, drawn in the worker while somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from m2n2lab.analysis.lineage import Lineage, seed_names
from m2n2lab.tasks.images.diffusion import Prompt, checked_prompt
from m2n2lab.tasks.images.text2image import Drawn, Text2Image
from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.records import Proposal

EACH = 4
"""Prompts of each language."""

OWN = "your own"
"""Stands for the language of a person's own prompt."""


@dataclass(frozen=True)
class Looking:
    """What a page wants to see.

    Attributes:
        row: name of the row whose picture is seen large; none by default.
        column: of that picture.
        own: a person's own prompt, for which everybody draws first; none by default.
    """

    row: str = ""
    column: int = 0
    own: str = ""


class Row(NamedTuple):
    """One member's pictures.

    Attributes:
        name: what it is called here; no two rows have the same.
        kind: ``"seed"``, ``"best"``, ``"newest"``, ``"a"``, ``"b"`` or ``"child"``.
        drawn: one for each prompt; ``None`` where it is still to be drawn.
    """

    name: str
    kind: str
    drawn: tuple[Drawn | None, ...]


@dataclass(frozen=True, eq=False)
class GalleryData:
    """The gallery at one moment.

    Attributes:
        prompts: the columns.
        rows: the members.
        at: the name and the prompt of what is seen large; ``None`` where nothing is.
        parents: what its parents draw for that prompt from the same noise, each a row of one.
        words: where the member that drew it came from.
        note: why the person's own prompt is not drawn; empty otherwise.
    """

    prompts: tuple[Prompt, ...]
    rows: tuple[Row, ...]
    at: tuple[str, Prompt] | None = None
    parents: tuple[Row, ...] = ()
    words: str = ""
    note: str = ""


class _Painter(NamedTuple):
    """Who draws.

    Attributes:
        name, kind: as in ``Row``.
        genome: its own.
        parents: those of its parents that live.
        words: where it came from.
    """

    name: str
    kind: str
    genome: Any
    parents: tuple[_Painter, ...] = ()
    words: str = ""


class Gallery:
    """Draws what is missing, a few pictures at a time; only the worker touches it.

    Args:
        evolver: the search.
        lineage: knows everybody's parents.

    Attributes:
        data: what is drawn so far; ``None`` where the task draws nothing, or nobody has looked.
    """

    def __init__(self, evolver: Evolver, lineage: Lineage) -> None:
        self._evolver, self._lineage = evolver, lineage
        self._task = evolver.task if isinstance(evolver.task, Text2Image) else None
        self._prompts = tuple(self._task.exhibits(EACH)) if self._task else ()
        self._seeds = tuple(zip(seed_names(evolver.space), evolver.space.seeds, strict=True))
        # By the genomes' own identity: numbers of members are given anew after an undo.
        self._known: dict[int, tuple[Any, dict[Prompt, Drawn]]] = {}
        self._made: tuple[object, ...] = ()  # what ``data`` was made of
        self._missing: list[tuple[Any, list[Prompt]]] = []  # what is looked at first comes first
        self.data: GalleryData | None = None

    @property
    def possible(self) -> bool:
        """Whether the task draws."""
        return self._task is not None

    def look(self, looking: Looking | None, bench: Proposal | None, child: Any) -> bool:
        """Bring ``data`` to what there is; returns whether pictures are missing.

        Args:
            looking: what is wanted; ``None`` where nobody looks.
            bench: what is on the bench, if anything.
            child: the genome of the child there.
        """
        self._missing = []
        if looking is None or self._task is None:
            return False
        people = tuple(self._people(bench, child))
        named = {each.name: each for each in people}
        prompts, note = self._prompts, ""
        if own := looking.own.strip():
            try:
                prompts = (Prompt(checked_prompt(own), OWN), *prompts)
            except InputError as error:
                note = str(error)
        chosen, one = named.get(looking.row), prompts[looking.column : looking.column + 1]
        at: tuple[str, Prompt] | None = None
        parents: list[Row] = []
        if chosen is not None and one:
            at = chosen.name, one[0]
            _, *parents = [self._row(each, one) for each in (chosen, *chosen.parents)]
        rows = tuple(self._row(each, prompts) for each in people)
        kept = {id(each.genome) for one in people for each in (one, *one.parents)}
        self._known = {key: known for key, known in self._known.items() if key in kept}
        drawn = sum(len(pictures) for _, pictures in self._known.values())
        made = looking, drawn, *((each.name, each.words, id(each.genome)) for each in people)
        if made != self._made:
            self._made = made
            words = chosen.words if chosen else ""
            self.data = GalleryData(prompts, rows, at, tuple(parents), words, note)
        return bool(self._missing)

    def draw(self) -> None:
        """Draw some of what ``look`` found missing: of one member, in one language."""
        genome, prompts = self._missing[0]
        language = prompts[0].language
        some = [prompt for prompt in prompts if prompt.language == language]
        assert self._task is not None  # or nothing would be missing
        model = self._evolver.space.materialise(genome)
        drawn = self._task.draw(model, some, score=language != OWN)
        self._drawn(genome).update(zip(some, drawn, strict=True))

    def _row(self, painter: _Painter, prompts: tuple[Prompt, ...]) -> Row:
        """Return what somebody has drawn, and note what is missing."""
        known = self._drawn(painter.genome)
        if missing := [prompt for prompt in prompts if prompt not in known]:
            self._missing.append((painter.genome, missing))
        return Row(painter.name, painter.kind, tuple(map(known.get, prompts)))

    def _drawn(self, genome: Any) -> dict[Prompt, Drawn]:
        return self._known.setdefault(id(genome), (genome, {}))[1]

    # -- who draws ---------------------------------------------------------------------------------

    def _people(self, bench: Proposal | None, child: Any) -> Iterator[_Painter]:
        """Yield the seeds, the best, the newest, and who is on the bench."""
        for name, genome in self._seeds:
            yield _Painter(f"seed {name}", "seed", genome, words="One of the models it began with.")
        archive = self._evolver.archive
        yield self._member("best", archive.best.id)
        yield self._member("newest", max(archive.ids))
        if bench is not None and child is not None:
            pair = [
                self._member(kind, id)
                for kind, id in zip("ab", bench.parents, strict=True)
                if id in archive
            ]
            yield from pair
            words = f"From {' × '.join(map(str, bench.parents))}, on the bench."
            yield _Painter("child", "child", child, tuple(pair), words)

    def _member(self, kind: str, id: int, parents: bool = True) -> _Painter:
        """Return a member, with those of its parents that live."""
        archive, life = self._evolver.archive, self._lineage[id]
        living = tuple(p for p in life.parents if p in archive)
        words = f"Born at step {life.born:,}" if life.born else "It was there at the beginning"
        words += f", from {' × '.join(map(str, life.parents))}" if life.parents else ""
        gone = [str(p) for p in life.parents if p not in archive]
        words += f"; {' and '.join(gone)} died" if gone else ""
        return _Painter(
            f"{kind.upper() if len(kind) == 1 else kind}: {id}",
            kind,
            archive[id].genome,
            tuple(self._member("parent", p, False) for p in living) if parents else (),
            f"{words}.",
        )
