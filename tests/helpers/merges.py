"""Merges as tests make and look at them."""

import contextlib
import filecmp
import hashlib
import io
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file

from m2n2lab import CheckpointSpace
from m2n2lab.cli import main


def run(*arguments):
    """Run ``m2n2lab`` here; return its status, its output and what it said beside."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with (
        mock.patch.object(sys, "argv", ["m2n2lab", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    assert "Traceback" not in err.getvalue()
    return status, out.getvalue(), err.getvalue()


def refused(a, b, *options, out="out", status=2):
    """Merge two checkpoints, which must fail and leave nothing; return what was said."""
    before = sorted(Path().rglob("*"))
    found, stdout, error = run("merge", a, b, "-o", out, *options)
    assert found == status
    assert stdout == ""
    assert sorted(Path().rglob("*")) == before  # neither the result nor a part of it
    return error.partition("Error: ")[2]


def says(message, *words):
    """See that a message has all these words."""
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"


def merged(a="a", b="b", out="out", **options):
    """Merge two checkpoints by the library."""
    space = CheckpointSpace(a, b, **options)
    space.save(space.merge(*space.seeds, space.size // 3, 0.3), out)
    return Path(out)


def weights(folder):
    """Return all tensors of a folder's files."""
    return {
        name: tensor
        for path in sorted(Path(folder).glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def equal(found, expected):
    """Return whether two models are the same to the last bit."""
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        for name, tensor in expected.items()
    )


def files(folder):
    return sorted(p.relative_to(folder) for p in Path(folder).rglob("*") if p.is_file())


def same(a, b):
    """Return whether two folders hold the same files with the same bytes."""
    return files(a) == files(b) and all(
        filecmp.cmp(Path(a, name), Path(b, name), shallow=False) for name in files(a)
    )


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def copy(models, name, target):
    """Copy one of the models that tests share, to be changed."""
    return Path(shutil.copytree(models / name, target))


def same_search(a, b):
    """Whether two searches stand at the very same point."""
    one, two = a.state_dict(), b.state_dict()
    kept = [
        (x is None and y is None) or np.array_equal(x, y)
        for x, y in zip(one["archive"].pop("genomes"), two["archive"].pop("genomes"), strict=True)
    ]
    scores = one["archive"].pop("scores"), two["archive"].pop("scores")
    # Without a held-out part the best member's score there is NaN, which equals nothing.
    held_out = [np.array(state.pop("tested") or (), float) for state in (one, two)]
    same = np.array_equal(*scores) and np.array_equal(*held_out, equal_nan=True)
    return all(kept) and same and one == two
