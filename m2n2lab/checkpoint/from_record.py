"""A saved merge made again from its recipe: the same bytes, or a word on which seed has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from m2n2lab.checkpoint.checks import Vocabulary, preflight
from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.io.parallel import Progress, nothing
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.checkpoint.merge_record import Record, used
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.save import save
from m2n2lab.utils.errors import InputError


def rebuild(
    recipe: str | Path,
    out: str | Path,
    seeds: Sequence[str | Path] | None = None,
    progress: Progress = nothing,
    starting: Callable[[Plan], object] = lambda plan: None,
) -> Path:
    """Make a saved merge again, byte for byte.

    Args:
        recipe: the ``recipe.json`` of the merge.
        out: the folder to make.
        seeds: where the seeds are now, in the recipe's order; by default where they were, seen
            from here or from a folder above the recipe.
        progress: called with the bytes that were just read and written.
        starting: called with the plan once the seeds are found to be the same.

    Raises:
        InputError: no such recipe, other seeds than it names.
        Problems: seeds that cannot be merged, or that have changed; which, is said.
    """
    record = Record.read(recipe)
    ids = [str(seed["id"]) for seed in record.seeds]
    if seeds is not None and len(seeds) != len(ids):
        raise InputError(
            f"{recipe} is made of {len(ids)} seeds ({', '.join(ids)}), but {len(seeds)} came; give "
            f"them all, in this order."
        )
    places = list(seeds) if seeds is not None else [_find(id, Path(recipe)) for id in ids]
    found = preflight(
        places,
        components=record.components,
        dtype=TORCH_NAMES.get(record.dtype or ""),
        vocab=cast("Vocabulary", record.vocab),
        out=out,
    )
    if found.plan is None:
        raise Problems(*found.problems)
    plan = found.plan
    names = used(plan, record.tokenizer)
    # Not from memory: this is where a changed seed shows.
    hashes = Hashes((path for files in names for path in files.values()), trust=False)
    digests = hashes.wait()
    changed = [
        Problem(
            file=str(files.get(name, plan.seeds[k].path)),
            expected=f"the file {name} that seed {told['id']} had, with SHA-256 {sha:.12}…",
            found="none" if name not in files else f"another, with {digests[files[name]]:.12}…",
            fix="use the seed as it was when the recipe was made",
        )
        for k, (told, files) in enumerate(zip(record.seeds, names, strict=True))
        for name, sha in told["files"].items()
        if name not in files or digests[files[name]] != sha
    ]
    if changed:
        raise Problems(*changed)
    starting(plan)
    return save(plan, record.recipe, out, hashes, record, progress)


def _find(id: str, recipe: Path) -> str | Path:
    """Return where a seed is: its path from here or from a folder above the merge, or its id."""
    if Path(id).exists():
        return id
    places = (folder / id for folder in recipe.absolute().parent.parents)
    return next((place for place in places if place.exists()), id)
