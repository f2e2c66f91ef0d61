"""Gallery: pictures of members side by side, drawn in the worker while a page shows them."""

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

PROMPTS_PER_LANGUAGE = 4
"""Columns of each language."""

OWN_LANGUAGE = "your own"
"""Stands for the language of a person's own prompt."""


@dataclass(frozen=True)
class GalleryRequest:
    """What a page wants to see of the gallery.

    Attributes:
        row: name of the row whose picture is enlarged; none by default.
        column: of that picture.
        own: a person's own prompt, the first column; none by default.
    """

    row: str = ""
    column: int = 0
    own: str = ""


class Row(NamedTuple):
    """One member's pictures.

    Attributes:
        name: unique among the rows.
        role: ``"seed"``, ``"best"``, ``"newest"``, ``"a"``, ``"b"`` or ``"child"``; of parents of
            the enlarged picture ``"parent"``.
        drawn: one for each prompt; ``None`` where it is still to be drawn.
    """

    name: str
    role: str
    drawn: tuple[Drawn | None, ...]


@dataclass(frozen=True, eq=False)
class GalleryData:
    """The gallery at one moment.

    Attributes:
        prompts: the columns.
        rows: the members.
        at: row name and prompt of the enlarged picture; ``None`` if there is none.
        parents: what its parents draw for that prompt from the same noise, each a row of one.
        origin: a sentence on where the member that drew it came from.
        note: why the person's own prompt is not drawn; empty otherwise.
    """

    prompts: tuple[Prompt, ...]
    rows: tuple[Row, ...]
    at: tuple[str, Prompt] | None = None
    parents: tuple[Row, ...] = ()
    origin: str = ""
    note: str = ""


class _Model(NamedTuple):
    """A model whose pictures are shown.

    Attributes:
        name, role: as in ``Row``.
        genome: to be drawn with.
        parents: those of its parents that are alive.
        origin: as in ``GalleryData``.
    """

    name: str
    role: str
    genome: Any
    parents: tuple[_Model, ...] = ()
    origin: str = ""


class Gallery:
    """Draws missing pictures, a few at a time; used by the worker alone.

    Args:
        evolver: the search.
        lineage: of its members.

    Attributes:
        data: what is drawn so far; ``None`` if the task draws nothing, or before a request.
    """

    def __init__(self, evolver: Evolver, lineage: Lineage) -> None:
        self._evolver, self._lineage = evolver, lineage
        self._task = evolver.task if isinstance(evolver.task, Text2Image) else None
        self._prompts = tuple(self._task.exhibits(PROMPTS_PER_LANGUAGE)) if self._task else ()
        self._seeds = tuple(zip(seed_names(evolver.space), evolver.space.seeds, strict=True))
        # By the identity of genomes: ids of members are reused after an undo.
        self._known: dict[int, tuple[Any, dict[Prompt, Drawn]]] = {}
        self._made: tuple[object, ...] = ()  # what ``data`` was made of
        self._missing: list[tuple[Any, list[Prompt]]] = []  # the enlarged picture first
        self.data: GalleryData | None = None

    @property
    def possible(self) -> bool:
        """Whether the task draws."""
        return self._task is not None

    def update(self, request: GalleryRequest | None, bench: Proposal | None, child: Any) -> bool:
        """Update ``data``; returns whether pictures are missing.

        Args:
            request: what to show; ``None`` while no page shows the gallery.
            bench: the proposal on the bench, if any.
            child: the genome of its child.
        """
        self._missing = []
        if request is None or self._task is None:
            return False
        models = tuple(self._models(bench, child))
        named = {model.name: model for model in models}
        prompts, note = self._prompts, ""
        if own := request.own.strip():
            try:
                prompts = (Prompt(checked_prompt(own), OWN_LANGUAGE), *prompts)
            except InputError as error:
                note = str(error)
        chosen, one = named.get(request.row), prompts[request.column : request.column + 1]
        at: tuple[str, Prompt] | None = None
        parents: list[Row] = []
        if chosen is not None and one:
            at = chosen.name, one[0]
            _, *parents = [self._row(each, one) for each in (chosen, *chosen.parents)]
        rows = tuple(self._row(model, prompts) for model in models)
        kept = {id(each.genome) for model in models for each in (model, *model.parents)}
        self._known = {key: known for key, known in self._known.items() if key in kept}
        drawn = sum(len(pictures) for _, pictures in self._known.values())
        made = request, drawn, *((each.name, each.origin, id(each.genome)) for each in models)
        if made != self._made:
            self._made = made
            origin = chosen.origin if chosen else ""
            self.data = GalleryData(prompts, rows, at, tuple(parents), origin, note)
        return bool(self._missing)

    def draw(self) -> None:
        """Draw some missing pictures: of one member, in one language."""
        genome, prompts = self._missing[0]
        language = prompts[0].language
        some = [prompt for prompt in prompts if prompt.language == language]
        assert self._task is not None  # or nothing would be missing
        model = self._evolver.space.materialise(genome)
        drawn = self._task.draw(model, some, score=language != OWN_LANGUAGE)
        self._drawn(genome).update(zip(some, drawn, strict=True))

    def _row(self, model: _Model, prompts: tuple[Prompt, ...]) -> Row:
        """Return what a model has drawn, and note what is missing."""
        known = self._drawn(model.genome)
        if missing := [prompt for prompt in prompts if prompt not in known]:
            self._missing.append((model.genome, missing))
        return Row(model.name, model.role, tuple(map(known.get, prompts)))

    def _drawn(self, genome: Any) -> dict[Prompt, Drawn]:
        return self._known.setdefault(id(genome), (genome, {}))[1]

    # -- the models --------------------------------------------------------------------------------

    def _models(self, bench: Proposal | None, child: Any) -> Iterator[_Model]:
        """Yield the seeds, the best, the newest, and the pair and child on the bench."""
        for name, genome in self._seeds:
            yield _Model(f"seed {name}", "seed", genome, origin="One of the models it began with.")
        archive = self._evolver.archive
        yield self._member("best", archive.best.id)
        yield self._member("newest", max(archive.ids))
        if bench is not None and child is not None:
            pair = [
                self._member(role, id)
                for role, id in zip("ab", bench.parents, strict=True)
                if id in archive
            ]
            yield from pair
            origin = f"From {' × '.join(map(str, bench.parents))}, on the bench."
            yield _Model("child", "child", child, tuple(pair), origin)

    def _member(self, role: str, id: int, parents: bool = True) -> _Model:
        """Return a member, with those of its parents that are alive."""
        archive, life = self._evolver.archive, self._lineage[id]
        living = tuple(p for p in life.parents if p in archive)
        origin = f"Born at step {life.born:,}" if life.born else "It was there at the beginning"
        origin += f", from {' × '.join(map(str, life.parents))}" if life.parents else ""
        gone = [str(p) for p in life.parents if p not in archive]
        origin += f"; {' and '.join(gone)} died" if gone else ""
        return _Model(
            f"{role.upper() if len(role) == 1 else role}: {id}",
            role,
            archive[id].genome,
            tuple(self._member("parent", p, False) for p in living) if parents else (),
            f"{origin}.",
        )
