import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.datasets import load_digits

from m2n2lab import InputError
from m2n2lab.tasks import datasets, mnist
from m2n2lab.tasks.datasets import read_idx

TYPES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array):
    """Return the bytes of an IDX file, written from the format's description."""
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    head = bytes([0, 0, TYPES[array.dtype.name], array.ndim])
    return head + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pictures(count, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, 4, 3), dtype=np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def write(folder, part, count, packed=False, dot=False):
    """Write one part of MNIST under the names that MNIST's files have."""
    made = dict(zip(("images", "labels"), pictures(count), strict=True))
    for content, array in made.items():
        name = f"{part}-{content}{'.' if dot else '-'}idx{array.ndim}-ubyte"
        raw = idx(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (folder / name).write_bytes(raw)
    return made["images"], made["labels"]


# -- digits ---------------------------------------------------------------------------------------


def test_digits_are_split_in_front_and_rest(digits):
    data = load_digits()
    x, y = digits.training
    assert digits.points == len(x) == 1437
    assert np.array_equal(x.numpy(), data.data[:1437].astype(np.float32))  # pixels stay 0..16
    assert y.tolist() == data.target[:1437].tolist()
    assert digits.classes == tuple("0123456789")
    assert digits.name == "digits"
    assert digits.image_shape == (8, 8)
    # A model that always answers "3" is right on the threes of the other 360.
    model = torch.zeros(digits.layout.size)
    model[19_200 + 3] = 1
    assert digits.held_out(model) == (data.target[1437:] == 3).sum() / 360


@pytest.mark.parametrize("where", [datasets.DIGITS, "moved/digits.csv.gz"])
def test_the_digits_are_those_of_scikit_learn_wherever_it_has_them(where, monkeypatch):
    monkeypatch.setattr(datasets, "DIGITS", where)
    images, classes = datasets._digits()
    expected = load_digits()
    np.testing.assert_array_equal(images, expected.images)
    np.testing.assert_array_equal(classes, expected.target)


def test_the_digits_network_has_the_published_layout(digits):
    assert digits.layout.shapes == {"W1": (64, 256), "b1": (256,), "W2": (256, 10), "b2": (10,)}
    # 64·256 = 16384, + 256 = 16640, + 2560 = 19200, + 10 = 19210
    assert digits.layout.offsets == (0, 16_384, 16_640, 19_200, 19_210)
    assert digits.layout.locate(11_206) == "W1 row 43"


# -- IDX files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_of_every_dtype_are_read(dtype, packed, tmp_path):
    array = np.array([[[1, 2], [3, 100]], [[-3, 0], [7, 8]]]).astype(dtype)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    found = read_idx(path)
    assert found.tolist() == array.tolist()
    assert found.dtype == np.dtype(dtype)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_one_part_of_mnist_is_split_in_front_and_rest(packed, dot, tmp_path):
    images, labels = write(tmp_path, "t10k", 50, packed, dot)
    task = mnist(tmp_path, hidden=5)
    x, y = task.training
    assert task.points == 40
    assert task.name == "mnist"
    assert task.image_shape == (4, 3)
    assert np.allclose(x.numpy(), images[:40].reshape(40, 12) / 255)
    assert y.tolist() == labels[:40].tolist()
    assert 0 <= task.held_out(torch.zeros(task.layout.size)) <= 1
    assert mnist(tmp_path, limit=20, hidden=5).points == 16


def test_both_parts_of_mnist_are_used_as_they_are(tmp_path):
    images, _ = write(tmp_path, "train", 30)
    _, labels = write(tmp_path, "t10k", 25, packed=True)
    task = mnist(str(tmp_path), hidden=5)
    assert task.points == 30
    assert np.allclose(task.training[0].numpy(), images.reshape(30, 12) / 255)
    always_two = torch.zeros(task.layout.size)
    always_two[-10 + 2] = 1
    assert task.held_out(always_two) == (labels == 2).mean()
    assert mnist(tmp_path, limit=12, hidden=5).points == 12


def test_the_official_test_images_make_a_task():
    data = os.environ.get("M2N2LAB_DATA")
    if not data:
        pytest.skip("M2N2LAB_DATA does not name a folder with mnist/")
    task = mnist(Path(data) / "mnist")
    assert task.points == 8000
    assert task.training[0].shape == (8000, 784)
    assert (task.training[0].min(), task.training[0].max()) == (0, 1)
    assert task.training[1][:5].tolist() == [7, 2, 1, 0, 4]  # the test set's well-known beginning
    assert len(task.layout.shapes) == 4
    assert task.image_shape == (28, 28)
    always_one = torch.zeros(task.layout.size)
    always_one[-10 + 1] = 1
    labels = read_idx(Path(data) / "mnist" / "t10k-labels-idx1-ubyte.gz")
    assert len(labels[8000:]) == 2000
    assert task.held_out(always_one) == (labels[8000:] == 1).mean()
    assert task.evaluate(always_one).sum() == (task.groups == 1).sum()


# -- OpenML ---------------------------------------------------------------------------------------


def test_without_a_folder_mnist_is_fetched(monkeypatch):
    row = np.arange(784) % 256
    X = np.broadcast_to(row.astype(np.uint8), (70_000, 784))  # takes no memory
    y = (np.arange(70_000) % 7).astype(str).astype(object)
    asked = []

    def fetch(name, **options):
        asked.append((name, options["return_X_y"], options["as_frame"]))
        return X, y

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    task = mnist(limit=15, hidden=3)
    assert asked == [("mnist_784", True, False)]
    assert task.points == 15
    assert np.allclose(task.training[0][3].numpy(), row / 255)
    assert task.groups.tolist() == [k % 7 for k in range(15)]
    # The held-out images are the last 10,000: the first of them are labelled 3, 4, 5 …
    # because 60,000 mod 7 = 3, so three of 15 are threes; of the first 15 only two are.
    always_three = torch.zeros(task.layout.size)
    always_three[-7 + 3] = 1
    assert task.held_out(always_three) == 3 / 15


def test_without_a_network_the_other_way_is_named(monkeypatch):
    def fetch(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(
        InputError, match=r"OpenML \(OSError: no route to host\); give a folder with the IDX files"
    ):
        mnist()


# -- bad input ------------------------------------------------------------------------------------

IMAGES = "t10k-images-idx3-ubyte"
LABELS = "t10k-labels-idx1-ubyte"


def put(name, content):
    return lambda folder: (folder / name).write_bytes(content)


GOOD = idx(pictures(50)[0])
SPOILT = {
    "no labels": (lambda f: (f / LABELS).unlink(), "t10k-labels-idx1-ubyte, got only one of them"),
    "no images": (
        lambda f: (f / IMAGES).unlink(),
        "t10k-images-idx3-ubyte .* only one of them",
    ),
    "cut gzip": (
        put(IMAGES, gzip.compress(GOOD)[:-40]),
        f"{IMAGES} could not be .* truncated",
    ),
    "bad gzip": (put(IMAGES, b"\x1f\x8b\x08" + bytes(30)), f"{IMAGES} could not be read"),
    "cut": (put(IMAGES, GOOD[:-7]), r"600 bytes of values for shape \(50, 4, 3\), got 593"),
    "too long": (put(IMAGES, GOOD + b"!"), "600 bytes .*, got 601"),
    "cut header": (
        put(IMAGES, GOOD[:9]),
        "must be an IDX file, got a file that starts with 00000803",
    ),
    "empty": (put(IMAGES, b""), "must be an IDX file, got a file that starts with nothing"),
    "a page": (put(IMAGES, b"<html>404</html>"), "IDX file, got a file that starts with 3c68746d"),
    "unknown type": (put(IMAGES, b"\0\0\x07" + GOOD[3:]), "IDX file, got .* with 00000703"),
    "no dimension": (put(IMAGES, b"\0\0\x08\0"), "IDX file, got .* with 00000800"),
    "huge": (put(IMAGES, GOOD[:4] + b"\xff" * 12), "bytes of values for shape .*, got 0;"),
    "few labels": (
        put(LABELS, idx(pictures(49)[1])),
        r"one whole number each, got shapes \(50, 4, 3\) and \(49,\)",
    ),
    "exchanged": (put(IMAGES, idx(pictures(50)[1])), r"must hold images .* shapes \(50,\) and"),
    "no pictures": (
        lambda f: (put(IMAGES, idx(pictures(0)[0]))(f), put(LABELS, idx(pictures(0)[1]))(f)),
        "got .*0",
    ),
    "a folder": (lambda f: ((f / IMAGES).unlink(), (f / IMAGES).mkdir()), "could not be read"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_file_is_named_with_its_fault(case, tmp_path):
    write(tmp_path, "t10k", 50)
    mnist(tmp_path, hidden=2)  # valid so far
    spoil, message = SPOILT[case]
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        mnist(tmp_path, hidden=2)


def test_a_folder_without_mnist_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere must be a folder .* no such folder"):
        mnist(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte.gz, but has none"):
        mnist(tmp_path)
    write(tmp_path, "t10k", 50)
    with pytest.raises(InputError, match=r"limit must be .* >= 10, got 3"):
        mnist(tmp_path, limit=3)
