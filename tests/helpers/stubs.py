"""Checkpoints of zeros, right or wrong, written byte by byte."""

import json

import numpy as np
import pytest
import torch

from m2n2lab.checkpoint import Checkpoint, Problems
from m2n2lab.checkpoint.io.tensor_file import DTYPE_BITS, make_header

NAMES = {
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of dtypes in safetensors."""


def file_of(path, header, data=b""):
    """Write a safetensors file with any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def weights(path, names, dtype="F32", shape=(2,)):
    """Write a file with tensors of zeros, in this order."""
    header = make_header(dict.fromkeys(names, (dtype, shape)), {})
    length = len(header) + len(names) * int(np.prod(shape)) * DTYPE_BITS[dtype] // 8
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.ljust(length, b"\0"))
    return path


def model(folder, names=("a.weight",), config=None, file="model.safetensors", **options):
    weights(folder / file, names, **options)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def sharded(folder, shards):
    """Write a folder of shards: file name → tensor names."""
    for file, names in shards.items():
        weights(folder / file, names)
    places = {name: file for file, names in shards.items() for name in names}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def pipeline(folder, components, index=None):
    """Write a diffusers pipeline: component → tensor names."""
    folder.mkdir(parents=True)
    for name, names in components.items():
        model(folder / name, names, {"_class_name": name.title()})
    listed = {name: ["diffusers", name.title()] for name in components}
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "P", **listed, **(index or {})})
    )
    return folder


def refused(source, components=None):
    """Return what is said of a checkpoint that is not opened."""
    with pytest.raises(Problems) as caught:
        Checkpoint.open(source, components)
    assert all(problem.fix and problem.file for problem in caught.value.problems)
    return str(caught.value)
