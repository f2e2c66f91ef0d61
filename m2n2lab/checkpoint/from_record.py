"""Rebuilding: a saved merge made again from its recipe, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from types import MappingProxyType
from typing import cast

from m2n2lab.checkpoint.checks.preflight import preflight
from m2n2lab.checkpoint.derived_tensors import DerivedTensors
from m2n2lab.checkpoint.io.adapters.source import Source
from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.io.parallel import Progress, no_progress
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.record.merge_record import Record, source_of, used_files
from m2n2lab.checkpoint.save import save
from m2n2lab.checkpoint.tokens.vocabulary import Mode
from m2n2lab.utils.errors import InputError

NOT_MOVED: Mapping[str, str | Path] = MappingProxyType({})


def rebuild(
    recipe: str | Path,
    out: str | Path,
    seeds: Sequence[str | Path] | None = None,
    progress: Progress = no_progress,
    starting: Callable[[Plan], object] = lambda plan: None,
    seed_map: Mapping[str, str | Path] = NOT_MOVED,
) -> Path:
    """Make a saved merge again, byte for byte.

    Args:
        recipe: the ``recipe.json`` of the merge.
        out: the folder to make.
        seeds: the paths or hub ids of the seeds, in the recipe's order; by default those in the
            recipe, relative to the working directory or to a folder above the recipe.
        progress: called with the number of bytes read and written since the last call.
        starting: called with the plan once the seeds are known to be unchanged.
        seed_map: the places of seeds that have moved, as for ``moved_seeds``.

    Raises:
        InputError: the recipe cannot be read, ``seeds`` are not as many as it has, ``seed_map``
            names another one, or an operator that it names is not known.
        Problems: seeds cannot be merged or have changed.
    """
    record = Record.read(recipe)
    ids = [str(seed["id"]) for seed in record.seeds]
    if seeds is not None and len(seeds) != len(ids):
        raise InputError(
            f"{recipe} needs {len(ids)} seeds ({', '.join(ids)}), got {len(seeds)}; give them all, "
            f"in this order."
        )
    sources = [source_of(seed) for seed in record.seeds]
    given = moved_seeds(ids, seed_map) if seeds is None else list(seeds)
    places = []
    for source, name, place in zip(sources, ids, given, strict=True):
        if seeds is None and place == name:  # may be relative to the recipe
            places.append(source.moved(lambda part: _find(part, Path(recipe))))
        else:
            places.append(_checked_strengths(source, Source.parse(place)))
    found = preflight(
        [str(place) for place in places],
        components=record.components,
        dtype=TORCH_NAMES.get(record.dtype or ""),
        vocab=cast("Mode", record.vocab),
        variant=record.variant,
        trust_remote_code=record.trust_remote_code,
        map=record.map,
        pictures=record.pictures,
        out=out,
        known=record.known,
    )
    if found.plan is None:
        raise Problems(*found.problems)
    plan = found.plan
    derived = DerivedTensors(plan)
    derived.check(record.recipe)
    names = used_files(plan, record.tokenizer)
    # Hashed anew, without the cache: a changed seed must be noticed.
    paths = (path for files in names for path in files.values())
    hashes = Hashes(paths, trust=False, opened=plan.opened)
    digests = hashes.wait()
    changed = [
        Problem(
            file=str(files.get(name, plan.seeds[k].path)),
            expected=f"the file {name} that seed {seed['id']} had, with SHA-256 {sha:.12}…",
            found="none" if name not in files else f"another, with {digests[files[name]]:.12}…",
            fix="use the seed as it was when the recipe was made",
        )
        for k, (seed, files) in enumerate(zip(record.seeds, names, strict=True))
        for name, sha in seed["files"].items()
        if name not in files or digests[files[name]] != sha
    ]
    if changed:
        raise Problems(*changed)
    starting(plan)
    return save(plan, record.recipe, out, hashes, record, progress, derived)


def moved_seeds(names: Sequence[str], places: Mapping[str, str | Path]) -> list[str | Path]:
    """Return where the seeds of a record are now.

    Args:
        names: (K,) their recorded paths or hub ids.
        places: paths or hub ids of those that have moved, each by its letter (``"A"`` is the
            first), its recorded name or the last part of that.

    Raises:
        InputError: there is no such seed, or there are several.
    """
    found: list[str | Path] = list(names)
    for key, place in places.items():
        letter = ascii_uppercase.find(key) if len(key) == 1 else -1
        fits = [k for k, name in enumerate(names) if key == name or k == letter]
        fits = fits or [k for k, name in enumerate(names) if key == Path(name).name]
        if len(fits) != 1:
            listed = ", ".join(
                f"{ascii_uppercase[k]} = {name}" for k, name in enumerate(names[:26])
            )
            raise InputError(
                f"seed_map must name one seed by its letter or recorded name ({listed}), got "
                f"{key!r}; write, for example, A=PATH."
            )
        found[fits[0]] = place
    return found


def _find(id: str, recipe: Path) -> str:
    """Return a seed's path from the working directory or a folder above the merge, or its id."""
    if Path(id).exists():
        return id
    places = (folder / id for folder in recipe.absolute().parent.parents)
    return next((str(place) for place in places if place.exists()), id)


def _checked_strengths(recorded: Source, given: Source) -> Source:
    """Return a given seed, which has as many adapters as the recorded one, at its strengths.

    Raises:
        InputError: it is not.
    """
    expected, got = ([number for _, number in each.adapters] for each in (recorded, given))
    if expected != got:
        raise InputError(
            f"The seed {recorded} must be given with adapters of the strengths "
            f"{', '.join(map(str, expected)) or '(none)'}, got {', '.join(map(str, got)) or 'none'}"
            f"; write it as {Source('BASE', tuple(('ADAPTER', number) for number in expected))}."
        )
    return given
