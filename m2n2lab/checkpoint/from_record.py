"""Rebuilding: a saved merge made again from its recipe, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from m2n2lab.checkpoint.checks import preflight
from m2n2lab.checkpoint.derived_tensors import DerivedTensors
from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.io.parallel import Progress, no_progress
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.checkpoint.merge_record import Record, used_files
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.save import save
from m2n2lab.checkpoint.vocabulary import Mode
from m2n2lab.utils.errors import InputError


def rebuild(
    recipe: str | Path,
    out: str | Path,
    seeds: Sequence[str | Path] | None = None,
    progress: Progress = no_progress,
    starting: Callable[[Plan], object] = lambda plan: None,
) -> Path:
    """Make a saved merge again, byte for byte.

    Args:
        recipe: the ``recipe.json`` of the merge.
        out: the folder to make.
        seeds: the paths or hub ids of the seeds, in the recipe's order; by default those in the
            recipe, relative to the working directory or to a folder above the recipe.
        progress: called with the number of bytes read and written since the last call.
        starting: called with the plan once the seeds are known to be unchanged.

    Raises:
        InputError: the recipe cannot be read, ``seeds`` are not as many as it has, or an operator
            that it names is not known.
        Problems: seeds cannot be merged or have changed.
    """
    record = Record.read(recipe)
    ids = [str(seed["id"]) for seed in record.seeds]
    if seeds is not None and len(seeds) != len(ids):
        raise InputError(
            f"{recipe} needs {len(ids)} seeds ({', '.join(ids)}), got {len(seeds)}; give them all, "
            f"in this order."
        )
    places = list(seeds) if seeds is not None else [_find(id, Path(recipe)) for id in ids]
    found = preflight(
        places,
        components=record.components,
        dtype=TORCH_NAMES.get(record.dtype or ""),
        vocab=cast("Mode", record.vocab),
        variant=record.variant,
        trust_remote_code=record.trust_remote_code,
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


def _find(id: str, recipe: Path) -> str | Path:
    """Return a seed's path from the working directory or a folder above the merge, or its id."""
    if Path(id).exists():
        return id
    places = (folder / id for folder in recipe.absolute().parent.parents)
    return next((place for place in places if place.exists()), id)
