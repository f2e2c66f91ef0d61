"""Datasets: scikit-learn's digits (embedded), MNIST from IDX files or OpenML."""

from __future__ import annotations

import gzip
import io
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.tasks.classify import Classify
from m2n2lab.tasks.registry import records_origin
from m2n2lab.utils.errors import InputError, whole_number
from m2n2lab.utils.files import read_file

TRAIN_SHARE = 0.8
"""Share of a dataset without a test part that is trained on, from the front."""

MAX_BYTES = 1 << 30
"""Longest file of images, unpacked; MNIST's have 47 million bytes."""

DIGITS = "datasets/data/digits.csv.gz"
"""Scikit-learn's file of the digits, a row of 64 pixels and the class for each."""

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def _front_and_rest(
    name: str, X: NDArray[Any], y: NDArray[Any], limit: int | None = None, **options: Any
) -> Classify:
    """Return a task on the first 80 % of the data, with the rest held out."""
    if limit is not None:
        limit = whole_number("limit", limit, 10)
        X, y = X[:limit], y[:limit]
    cut = int(len(X) * TRAIN_SHARE)
    return Classify(X[:cut], y[:cut], X[cut:], y[cut:], name=name, **options)


@records_origin
def digits(**options: Any) -> Classify:
    """Return the 8×8 digits of scikit-learn: 1,437 to train on, 360 held out, pixels 0..16.

    Args:
        options: ``hidden`` and ``device``, as for ``Classify``.
    """
    return _front_and_rest("digits", *_digits(), **options)


def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the images and classes of ``sklearn.datasets.load_digits``.

    They are read from scikit-learn's file: it takes two seconds to import, of every start.
    """
    package = find_spec("sklearn")
    file = Path(package.origin).parent / DIGITS if package and package.origin else None
    if file is None or not file.is_file():  # other versions may have it elsewhere
        from sklearn.datasets import load_digits

        data = load_digits()
        return data.images, data.target
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


@records_origin
def mnist(folder: str | Path | None = None, limit: int | None = None, **options: Any) -> Classify:
    """Return MNIST, 28×28 pixels scaled to 0..1.

    With ``train-*`` and ``t10k-*`` files both official parts are used; of a single part the first
    80 % are trained on and the rest is held out.

    Args:
        folder: folder of the IDX files, gzipped or not; ``None`` fetches ``mnist_784`` from OpenML.
        limit: use only the first ``limit`` images of each part.
        options: ``hidden`` and ``device``, as for ``Classify``.

    Raises:
        InputError: the folder or a file is missing, a file is truncated or in another format, or
            OpenML cannot be reached.
    """
    parts = _fetch() if folder is None else _read_folder(Path(folder))
    if len(parts) == 1:
        return _front_and_rest("mnist", *parts[0], limit=limit, **options)
    if limit is not None:
        limit = whole_number("limit", limit, 10)
    (x, y), (x_test, y_test) = parts
    return Classify(x[:limit], y[:limit], x_test[:limit], y_test[:limit], name="mnist", **options)


Part = tuple[NDArray[np.float32], NDArray[np.int64]]


def _fetch() -> list[Part]:
    """Return MNIST from OpenML as the official 60,000 and 10,000 images."""
    from sklearn.datasets import fetch_openml

    try:
        X, y = fetch_openml("mnist_784", return_X_y=True, as_frame=False, parser="liac-arff")
    except Exception as error:  # whatever the network raises, the fallback is the same
        raise InputError(
            f"MNIST could not be fetched from OpenML ({type(error).__name__}: {error}); give a "
            f"folder with the IDX files instead."
        ) from error
    images = X.reshape(-1, 28, 28).astype(np.float32) / 255.0
    labels = y.astype(np.int64)
    return [(images[:60_000], labels[:60_000]), (images[60_000:], labels[60_000:])]


def _read_folder(folder: Path) -> list[Part]:
    """Read the parts whose IDX files are in a folder, training part first."""
    if not folder.is_dir():
        raise InputError(
            f"{folder} must be a folder with MNIST's IDX files, but there is no such folder; check "
            f"the path."
        )
    parts = []
    for prefix in ("train", "t10k"):
        images, labels = (_find(folder, f"{prefix}-{name}") for name in ("images", "labels"))
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            raise InputError(
                f"{folder} must hold {prefix}-images-idx3-ubyte and {prefix}-labels-idx1-ubyte, "
                f"got only one of them; add the other."
            )
        x, y = read_idx(images), read_idx(labels)
        if x.ndim != 3 or y.shape != (len(x),) or not x.size or y.dtype.kind not in "iu":
            raise InputError(
                f"{images.name} must hold images and {labels.name} one whole number each, got "
                f"shapes {x.shape} and {y.shape}, {y.dtype}; take both from the same dataset."
            )
        if len(np.unique(y)) < 2:
            raise InputError(
                f"{labels.name} must hold at least two classes, got {y[0]} alone; get it again."
            )
        parts.append((x.astype(np.float32) / 255.0, y.astype(np.int64)))
    if not parts:
        raise InputError(
            f"{folder} must hold IDX files such as t10k-images-idx3-ubyte.gz, but has none; put "
            f"MNIST's files into it."
        )
    return parts


def _find(folder: Path, start: str) -> Path | None:
    """Return the file of a part, named with ``-idx3`` or ``.idx3``; ``None`` if missing."""
    return next((path for path in sorted(folder.iterdir()) if path.name.startswith(start)), None)


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read the array in an IDX file, gzipped or not.

    The format: two zero bytes, a type, the number of dimensions, their sizes as big-endian 32-bit
    integers, then the values.

    Raises:
        InputError: the file cannot be read, is no IDX file, or is truncated.
    """
    path = Path(path)
    try:
        raw = read_file(path, MAX_BYTES)
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(raw)) as file:
                raw = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} could not be read ({error}); it may be truncated: get it again."
        ) from error
    if len(raw) > MAX_BYTES:
        raise InputError(
            f"{path} must hold at most {MAX_BYTES:,} bytes, got more; get MNIST's own file."
        )
    dimensions = raw[3] if len(raw) >= 4 else 0
    start = 4 + 4 * dimensions
    if len(raw) < start or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or not dimensions:
        raise InputError(
            f"{path} must be an IDX file, got a file that starts with "
            f"{raw[:4].hex() or 'nothing'}; get MNIST's own file."
        )
    shape = tuple(np.frombuffer(raw[4:start], dtype=">u4").tolist())
    dtype = np.dtype(_IDX_TYPES[raw[2]])
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(raw) - start != expected:
        raise InputError(
            f"{path} must hold {expected:,} bytes of values for shape {shape}, got "
            f"{len(raw) - start:,}; get it again."
        )
    values = np.frombuffer(raw, dtype=dtype, offset=start)
    return values.reshape(shape).astype(dtype.newbyteorder("="))
