"""Safetensors files: read and written as the library does, and every damage named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stubs import NAMES, file_of, model, refused
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from m2n2lab.checkpoint import Problems
from m2n2lab.checkpoint.io.dtypes import DTYPES
from m2n2lab.checkpoint.io.folder import read_headers
from m2n2lab.checkpoint.io.problems import Collector
from m2n2lab.checkpoint.io.tensor_file import (
    DTYPE_BITS,
    make_header,
    read_header,
)

# -- files ----------------------------------------------------------------------------------------


def test_a_file_is_read_as_the_library_reads_it(tmp_path):
    torch.manual_seed(0)
    contents = {
        f"{dtype}.{size}".removeprefix("torch."): torch.randint(0, 2, shape).to(dtype)
        for dtype in NAMES
        for size, shape in {"some": (3, 5), "one": (), "none": (0, 4)}.items()
    }
    save_file(contents, tmp_path / "a.safetensors", {"format": "pt", "näme": '"Wert"\n'})
    file = read_header(tmp_path / "a.safetensors")
    assert file.metadata == {"format": "pt", "näme": '"Wert"\n'}
    assert file.length == (tmp_path / "a.safetensors").stat().st_size
    assert set(file.entries) == set(contents)
    starts = [entry.start for entry in file.entries.values()]
    assert starts == sorted(starts)
    for name, tensor in contents.items():
        entry = file.entries[name]
        assert (entry.dtype, entry.shape) == (NAMES[tensor.dtype], tuple(tensor.shape))
        assert entry.size == tensor.numel()
        plain = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert bytes(file.raw(name)) == plain
        if entry.dtype in DTYPES:
            array = file.array(name)
            assert (array.dtype, array.shape) == (DTYPES[entry.dtype], (entry.size,))
            assert array.tobytes() == plain
            assert not array.flags.writeable or not array.size


def test_a_file_is_written_as_the_library_reads_it(tmp_path):
    torch.manual_seed(0)
    contents = {
        "z.weight": torch.randn(3, 5).to(torch.bfloat16),
        'ä "quoted" name': torch.randn(7),
        "none": torch.zeros(0, 2),
        "one": torch.tensor(3),
        "a": torch.tensor([True, False, True]),
        "b": torch.randn(2, dtype=torch.float64),
    }
    metadata = {"format": "pt", "m2n2lab": '{"a": "ü"}'}
    tensors = {name: (NAMES[t.dtype], tuple(t.shape)) for name, t in contents.items()}
    header = make_header(tensors, metadata)
    assert len(header) % 8 == 0
    assert make_header(dict(tensors), dict(metadata)) == header
    path = tmp_path / "a.safetensors"
    data = [t.reshape(-1).view(torch.uint8).numpy().tobytes() for t in contents.values()]
    path.write_bytes(header + b"".join(data))
    with safe_open(path, "pt") as file:
        assert file.metadata() == metadata
        assert set(file.keys()) == set(contents)
        for name, tensor in contents.items():
            assert torch.equal(file.get_tensor(name), tensor)
    read = read_header(path)
    assert list(read.entries) == list(contents)
    assert read.metadata == metadata


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
            lambda name: name != "__metadata__"
        ),
        st.tuples(
            st.sampled_from(["BF16", "F32", "I64", "U8"]),
            st.lists(st.integers(0, 4), max_size=3).map(tuple),
        ),
        max_size=6,
    ),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text('a"\\é\n')),
)
def test_what_is_written_is_what_is_read(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.mktemp("file") / "a.safetensors"
    sizes = [int(np.prod(shape)) * DTYPE_BITS[dtype] // 8 for dtype, shape in tensors.values()]
    path.write_bytes(make_header(tensors, metadata) + bytes(sum(sizes)))
    file = read_header(path)
    assert {name: (e.dtype, e.shape) for name, e in file.entries.items()} == tensors
    assert file.metadata == metadata
    with safe_open(path, "np") as theirs:
        assert set(theirs.keys()) == set(tensors)


def test_tensors_without_elements_may_be_named_in_any_order(tmp_path):
    # Both begin at byte 8, and the header names the one with elements first.
    header = {
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [8, 8]},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "end": {"dtype": "F32", "shape": [0], "data_offsets": [16, 16]},
    }
    path = file_of(tmp_path / "a.safetensors", header, np.arange(4, dtype=np.float32).tobytes())
    file = read_header(path)
    assert list(file.entries) == ["a", "none", "b", "end"]
    assert [file.array(name).tolist() for name in file.entries] == [[0, 1], [], [2, 3], []]


def test_headers_may_have_any_length(tmp_path):
    # Numbers then lie at odd places of the file.
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    for spaces in range(4):
        path = file_of(tmp_path / "a", header + b" " * spaces, np.float32([1, 2]).tobytes())
        assert read_header(path).array("a").tolist() == [1, 2]


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ODD = "expected a known dtype, a shape and a position"
APART = "expected contiguous tensors of the length that their shapes imply"


def entry(**changes):
    return {"a": {key: v for key, v in {**GOOD, **changes}.items() if v is not None}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "found a header of 0 bytes in a file of 0 bytes"),
        (b"\2\0\0", "found a header of 2 bytes in a file of 3 bytes"),
        (b"\0" * 7, "found a header of 0 bytes in a file of 7 bytes"),
        (b"\3" + b"\0" * 7 + b"{}", "found a header of 3 bytes in a file of 10 bytes"),
        (b"\xff" * 8, "found a header of 18,446,744,073,709,551,615 bytes in a file of 8 bytes"),
        (b"<!DOCTYPE html>" + b" " * 99, "bytes in a file of 114 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 8\n", "git lfs pull"),
    ],
)
def test_what_is_no_safetensors_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    message = refused(path)
    assert message.startswith(f"{path}: expected a safetensors file, but ")
    assert sentence in message


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b"", "found a header that is not JSON"),
        (b"{", "found a header that is not JSON"),
        (b'{"a": \xff}', "found a header that is not JSON"),
        (b"[" * 200_000, "found a header that is not JSON"),
        (b"[]", "found a header that names no tensors"),
        (b"null", "found a header that names no tensors"),
        ({"__metadata__": []}, "found a header that names no tensors"),
        (b'{"a": 1, "a": 2}', "found a header with the name 'a' twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "found a header with the name 'dtype' twice"),
        ({"a": 5}, f"tensor a: {ODD}, but found 5;"),
        ({"a": None}, f"tensor a: {ODD}, but found None;"),
        (entry(dtype=None), f"tensor a: {ODD}"),
        (
            entry(dtype="F31"),
            f"tensor a: {ODD}, but found {{'data_offsets': [0, 8], 'dtype': 'F31'",
        ),
        (entry(dtype=["F32"]), f"tensor a: {ODD}"),
        (entry(shape=None), f"tensor a: {ODD}"),
        (entry(shape=2), f"tensor a: {ODD}"),
        (entry(shape=[-2]), f"tensor a: {ODD}"),
        (entry(shape=[2.0]), f"tensor a: {ODD}"),
        (entry(shape=[True, 2]), f"tensor a: {ODD}"),
        (entry(shape=["2"]), f"tensor a: {ODD}"),
        (entry(data_offsets=None), f"tensor a: {ODD}"),
        (entry(data_offsets=[0]), f"tensor a: {ODD}"),
        (entry(data_offsets=[0, 8, 8]), f"tensor a: {ODD}"),
        (entry(data_offsets=[-8, 0]), f"tensor a: {ODD}"),
        (entry(data_offsets=[0, "8"]), f"tensor a: {ODD}"),
        (entry(data_offsets=[8, 0]), f"tensor a: {APART}"),
        (entry(data_offsets=[4, 8]), f"tensor a: {APART}"),
        (entry(data_offsets=[0, 4]), f"tensor a: {APART}, but found 4 bytes at "),
        (entry(shape=[3]), f"tensor a: {APART}, but found 8 bytes at "),
        (entry(dtype="BF16"), "for BF16 of shape (2,);"),
        (entry(shape=[2**62, 2**62, 0, 5]), f"tensor a: {APART}"),
        ({**entry(), "b": GOOD}, f"tensor b: {APART}"),  # the same place
        ({**entry(), "b": {**GOOD, "data_offsets": [4, 12]}}, f"tensor b: {APART}"),  # overlaps
        ({**entry(), "b": {**GOOD, "data_offsets": [12, 20]}}, f"tensor b: {APART}"),  # a hole
    ],
)
def test_a_malformed_header_is_named(tmp_path, header, sentence):
    path = file_of(tmp_path / "a.safetensors", header, bytes(8))
    message = refused(path)
    assert message.startswith(f"{path}")
    assert sentence in message
    assert message.endswith("; download or copy the file again.")


@pytest.mark.parametrize(
    ("length", "found"),
    [(7, "79 bytes: the file is truncated"), (0, "truncated"), (9, "81 bytes: something was ap")],
)
def test_a_file_that_is_not_as_long_as_its_header_says_is_named(tmp_path, length, found):
    # 8 bytes of length, 64 of header and 8 of numbers.
    path = file_of(
        tmp_path / "a.safetensors", json.dumps(entry()).encode().ljust(64), bytes(length)
    )
    message = refused(path)
    assert f"{path}: expected 80 bytes, as its header says, but found " in message
    assert found in message


def test_a_header_longer_than_the_format_allows_is_not_read(tmp_path, monkeypatch):
    path = file_of(tmp_path / "a.safetensors", json.dumps(entry()).encode().ljust(64), bytes(8))
    read_header(path)
    monkeypatch.setattr("m2n2lab.checkpoint.io.tensor_file.MAX_HEADER_BYTES", 63)
    assert "found a header of 64 bytes in a file of 80 bytes" in refused(path)


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(Problems, match="expected a readable file or folder, but found Is a direc"):
        read_header(tmp_path)
    with pytest.raises(Problems, match="expected a readable file or folder, but found No such f"):
        read_header(tmp_path / "none")
    folder = model(tmp_path / "model", config={})
    opened, exists = open, Path.exists

    def closed(path, *args, **options):
        if path in shut:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    def hidden(path):
        return exists(path) if path not in shut else closed(path)

    monkeypatch.setattr("builtins.open", closed)
    monkeypatch.setattr(Path, "exists", hidden)
    for path in (folder / "model.safetensors", folder / "config.json", folder):
        shut = {path}
        assert refused(folder) == (
            f"{path}: expected a readable file or folder, but found Permission denied; check the "
            f"path and its permissions."
        )


@given(st.integers(0, 300), st.binary(max_size=3), st.integers(0, 3))
def test_no_damage_to_a_file_is_more_than_a_problem(tmp_path_factory, at, bytes_, cut):
    path = tmp_path_factory.mktemp("file") / "a.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(0), "c": torch.zeros(1).half()}, path)
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes_ + content[at + cut :])
    problems = Collector()
    for file in read_headers([path], problems):
        assert all(len(file.raw(n)) == e.stop - e.start for n, e in file.entries.items())
    assert all(problem.file == str(path) for problem in problems.found)
