import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from m2n2lab.checkpoint import Checkpoint, Problems
from m2n2lab.checkpoint.checkpoint import depth
from m2n2lab.checkpoint.folder import headers, weight_files
from m2n2lab.checkpoint.format import BITS, make_header, read_header, reserve, write_at
from m2n2lab.checkpoint.kinds import DTYPES
from m2n2lab.checkpoint.problems import Collector, Problem

KINDS = {
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


def file_of(path, header, data=b""):
    """Write a safetensors file with any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def weights(path, names, kind="F32", shape=(2,)):
    """Write a file with tensors of zeros, in this order."""
    header = make_header(dict.fromkeys(names, (kind, shape)), {})
    length = len(header) + len(names) * int(np.prod(shape)) * BITS[kind] // 8
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


# -- files ----------------------------------------------------------------------------------------


def test_a_file_is_read_as_the_library_reads_it(tmp_path):
    torch.manual_seed(0)
    contents = {
        f"{dtype}.{size}".removeprefix("torch."): torch.randint(0, 2, shape).to(dtype)
        for dtype in KINDS
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
        assert (entry.kind, entry.shape) == (KINDS[tensor.dtype], tuple(tensor.shape))
        assert entry.size == tensor.numel()
        plain = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert bytes(file.raw(name)) == plain
        if entry.kind in DTYPES:
            array = file.array(name)
            assert (array.dtype, array.shape) == (DTYPES[entry.kind], (entry.size,))
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
    tensors = {name: (KINDS[t.dtype], tuple(t.shape)) for name, t in contents.items()}
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
    sizes = [int(np.prod(shape)) * BITS[kind] // 8 for kind, shape in tensors.values()]
    path.write_bytes(make_header(tensors, metadata) + bytes(sum(sizes)))
    file = read_header(path)
    assert {name: (e.kind, e.shape) for name, e in file.entries.items()} == tensors
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
ODD = "expected a known kind, a shape and a place"
APART = "expected tensors that lie one behind the other, as long as their shapes say"


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
    [(7, "79 bytes: the file was cut short"), (0, "cut short"), (9, "81 bytes: something was ad")],
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
    monkeypatch.setattr("m2n2lab.checkpoint.format.LONGEST_HEADER", 63)
    assert "found a header of 64 bytes in a file of 80 bytes" in refused(path)


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(Problems, match="expected a readable file or folder, but found Is a direc"):
        read_header(tmp_path)
    with pytest.raises(Problems, match="expected a readable file or folder, but found No such f"):
        read_header(tmp_path / "none")
    folder = model(tmp_path / "model", config={})
    opened, exists = Path.open, Path.exists

    def closed(path, *args, **options):
        if path in shut:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    def hidden(path):
        return exists(path) if path not in shut else closed(path)

    monkeypatch.setattr(Path, "open", closed)
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
    for file in headers([path], problems):
        assert all(len(file.raw(n)) == e.stop - e.start for n, e in file.entries.items())
    assert all(problem.file == str(path) for problem in problems.found)


def test_all_is_written_even_if_the_system_takes_it_in_parts(tmp_path, monkeypatch):
    content = bytes(range(256))
    whole = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda file, data, at: whole(file, data[:10], at))
    with (tmp_path / "a").open("wb") as file:
        write_at(file.fileno(), content[100:], 100)
        write_at(file.fileno(), memoryview(content)[:100], 0)
        write_at(file.fileno(), b"", 7)
    assert (tmp_path / "a").read_bytes() == content


def test_a_file_gets_its_length_at_once_or_is_refused_by_a_full_disk(tmp_path, monkeypatch):
    def allocate(error):
        def fail(*args):
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr("os.posix_fallocate", fail, raising=False)

    with (tmp_path / "a").open("wb") as file:
        reserve(file.fileno(), 1000)
        assert os.fstat(file.fileno()).st_size == 1000
        allocate(errno.EOPNOTSUPP)  # such as on NFS
        reserve(file.fileno(), 2000)
        assert os.fstat(file.fileno()).st_size == 2000
        allocate(errno.ENOSPC)
        with pytest.raises(OSError, match="No space left"):
            reserve(file.fileno(), 3000)
        monkeypatch.delattr("os.posix_fallocate")  # such as on macOS
        reserve(file.fileno(), 4000)
    assert (tmp_path / "a").read_bytes() == bytes(4000)


# -- folders --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints as transformers and diffusers save them."""
    root = tmp_path_factory.mktemp("saved")
    checkpoints.llama(root / "single")
    checkpoints.llama(root / "sharded", shards="10KB")
    checkpoints.llama(root / "tied", tied=True)
    checkpoints.llama(root / "double", dtype=torch.float64)
    checkpoints.unet(root / "unet")
    checkpoints.pipeline(root / "pipeline")
    return root


def check_contents(checkpoint, state):
    """See that the flat vector has the tensors of a state dict."""
    assert set(checkpoint.merged) | set(checkpoint.carried) == set(state)
    assert list(checkpoint.layout.shapes) == list(checkpoint.merged)
    for name in checkpoint.merged:
        assert checkpoint.layout.shapes[name] == tuple(state[name].shape)
        plain = state[name].reshape(-1).view(torch.uint8).numpy().tobytes()
        assert checkpoint.array(name).tobytes() == plain == bytes(checkpoint.raw(name))


@pytest.mark.parametrize(("name", "files"), [("single", 1), ("sharded", 5), ("double", 1)])
def test_a_llama_is_opened(saved, name, files):
    from transformers import AutoModelForCausalLM

    checkpoint = Checkpoint.open(saved / name)
    assert (checkpoint.kind, checkpoint.id, checkpoint.path) == (
        "transformers",
        str(saved / name),
        saved / name,
    )
    assert len(checkpoint.files) == files
    assert [part.architecture for part in checkpoint.parts] == ["LlamaForCausalLM"]
    assert {checkpoint.relative(file.path) for file in checkpoint.files} == {
        path.name for path in (saved / name).glob("*.safetensors")
    }
    state = AutoModelForCausalLM.from_pretrained(saved / name, dtype="auto").state_dict()
    check_contents(checkpoint, state)
    # Embedding 64×32, head 64×32, norm 32; per layer 2·32 for norms, 3·32·48 for the feed-forward
    # part, 2·32·32 + 2·32·16 for attention: 2048 + 2048 + 32 + 2·(64 + 4608 + 3072) = 19,616.
    assert checkpoint.layout.size == 19_616
    assert (checkpoint.merged[0], checkpoint.merged[-2:]) == (
        "model.embed_tokens.weight",
        ("model.norm.weight", "lm_head.weight"),
    )
    assert checkpoint.entry("lm_head.weight").kind == ("F64" if name == "double" else "BF16")
    assert (checkpoint.carried, checkpoint.tied) == ((), {})


def test_shards_make_no_difference(saved):
    one, many = Checkpoint.open(saved / "single"), Checkpoint.open(saved / "sharded")
    assert list(one.layout.shapes.items()) == list(many.layout.shapes.items())
    assert all(np.array_equal(one.array(name), many.array(name)) for name in one.merged)
    assert many.file("lm_head.weight").name.startswith("model-0000")


def test_tied_weights_appear_once(saved):
    checkpoint = Checkpoint.open(saved / "tied")
    assert checkpoint.layout.size == 19_616 - 2048
    assert "lm_head.weight" not in checkpoint.merged
    assert checkpoint.tied == {}  # transformers does not write it


def test_a_denoiser_is_opened(saved):
    checkpoint = Checkpoint.open(saved / "unet")
    assert [part.architecture for part in checkpoint.parts] == ["UNet2DConditionModel"]
    check_contents(checkpoint, load_file(saved / "unet/diffusion_pytorch_model.safetensors"))


def test_of_a_pipeline_the_denoiser_and_text_encoders_are_merged(saved):
    checkpoint = Checkpoint.open(saved / "pipeline")
    assert checkpoint.kind == "diffusers"
    assert [part.name for part in checkpoint.parts] == ["text_encoder", "unet"]
    unet = load_file(saved / "pipeline/unet/diffusion_pytorch_model.safetensors")
    text = load_file(saved / "pipeline/text_encoder/model.safetensors")
    state = {f"unet/{name}": value for name, value in unet.items()}
    check_contents(
        checkpoint, {**state, **{f"text_encoder/{name}": value for name, value in text.items()}}
    )
    chosen = Checkpoint.open(saved / "pipeline", components=["vae", "unet", "vae"])
    assert [part.name for part in chosen.parts] == ["unet", "vae"]
    assert {name.partition("/")[0] for name in chosen.merged} == {"unet", "vae"}
    assert Checkpoint.open(saved / "pipeline", components="unet").merged == tuple(
        name for name in checkpoint.merged if name.startswith("unet/")
    )
    assert checkpoint.relative(checkpoint.file("unet/conv_in.bias")) == (
        "unet/diffusion_pytorch_model.safetensors"
    )


def test_a_component_that_is_not_there_is_refused(tmp_path):
    path = pipeline(tmp_path / "sd", {"unet": ["a"], "vae": ["b"]}, {"text_encoder": [None, None]})
    assert refused(path, ["unet", "text_encoder"]) == (
        f"{path}: expected a component 'text_encoder', but found only unet, vae; choose among "
        f"these."
    )
    assert refused(path, ["prior", "encoder"]).count("expected a component") == 2
    path = model(tmp_path / "llama", config={"architectures": ["L"]})
    assert refused(path, ["unet"]) == (
        f"{path}: expected a component 'unet', but found none; leave components out."
    )
    assert "expected a component 'unet'" in refused(path / "model.safetensors", ["unet"])


def test_a_pipeline_without_anything_to_merge_is_refused(tmp_path):
    path = pipeline(tmp_path / "sd", {"vae": ["a"]})
    assert refused(path) == (
        f"{path}: expected a denoiser or a text encoder, but found only vae; choose components."
    )
    assert Checkpoint.open(path, ["vae"]).merged == ("vae/a",)
    path = pipeline(tmp_path / "none", {})
    assert "found no component; download or copy it again" in refused(path)


def test_components_with_the_same_tensors_stay_apart(tmp_path):
    path = pipeline(tmp_path / "sdxl", {"text_encoder_2": ["a"], "text_encoder": ["a", "b"]})
    checkpoint = Checkpoint.open(path)
    assert checkpoint.merged == ("text_encoder/a", "text_encoder/b", "text_encoder_2/a")
    assert checkpoint.file("text_encoder_2/a") == path / "text_encoder_2/model.safetensors"


def test_a_single_file_is_opened(saved, tmp_path):
    path = saved / "single/model.safetensors"
    checkpoint = Checkpoint.open(str(path))
    assert (checkpoint.kind, checkpoint.relative(path)) == ("file", "model.safetensors")
    assert checkpoint.layout.shapes == Checkpoint.open(saved / "single").layout.shapes
    folder = model(tmp_path / "folder", ["a"], file="any name.safetensors")
    assert Checkpoint.open(folder).merged == ("a",)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["model"], "model"),
        (["consolidated", "model"], "model"),
        (["diffusion_pytorch_model", "diffusion_pytorch_model.fp16"], "diffusion_pytorch_model"),
        (["model.fp16"], "model.fp16"),
        (["model", "model-00001-of-00002"], "model"),
    ],
)
def test_the_file_that_libraries_load_is_opened(tmp_path, files, chosen):
    for file in files:
        weights(tmp_path / f"{file}.safetensors", [file])
    assert Checkpoint.open(tmp_path).merged == (chosen,)


def test_several_files_that_are_no_shards_are_refused(tmp_path):
    for name in ("b", "a"):
        weights(tmp_path / f"{name}.safetensors", [name])
    assert refused(tmp_path) == (
        f"{tmp_path}: expected one model, but found several: a.safetensors, b.safetensors; name "
        f"the one file that is meant."
    )
    assert Checkpoint.open(tmp_path / "b.safetensors").merged == ("b",)


def test_of_a_single_file_and_shards_the_one_that_libraries_load_is_opened(tmp_path):
    one, two = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    sharded(tmp_path, {one: ["a"], two: ["b"]})
    assert Checkpoint.open(tmp_path).merged == ("a", "b")
    weights(tmp_path / "model.safetensors", ["c"])  # as transformers does
    assert Checkpoint.open(tmp_path).merged == ("c",)
    stem = "diffusion_pytorch_model.safetensors"
    (tmp_path / "model.safetensors.index.json").rename(tmp_path / f"{stem}.index.json")
    weights(tmp_path / stem, ["d"])
    assert Checkpoint.open(tmp_path).merged == ("a", "b")  # as diffusers does


def test_all_that_is_wrong_with_shards_is_named_at_once(tmp_path):
    one, two, three, four = (f"model-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4))
    index = sharded(tmp_path, {one: ["a", "b"], two: ["c"], three: ["d"], four: ["e", "f"]})
    (tmp_path / two).unlink()
    (tmp_path / three).write_bytes(b"")
    weights(tmp_path / one, ["a", "e"])
    weights(tmp_path / four, ["f"])
    message = refused(tmp_path)
    assert message.startswith("4 problems were found:\n- ")
    for line in (
        f"{tmp_path / two}: expected a shard with 1 tensors, as {index.name} says, but found no",
        f"{tmp_path / three}: expected a safetensors file, but found a header of 0 bytes",
        f"{tmp_path / one}, tensor b: expected this tensor in {one}, as {index.name} says, but fou",
        f"{tmp_path / four}, tensor e: expected this tensor in {four}, as {index.name} says, but f",
    ):
        assert line in message
    assert f"found it in {one};" in message
    assert "found none of that name;" in message


def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path):
    weights(tmp_path / "secret.safetensors", ["a"])
    folder = tmp_path / "model"
    sharded(folder, {"x.safetensors": ["a"]})
    for place in ("../secret.safetensors", str(tmp_path / "secret.safetensors"), "", ".", ".."):
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": place}})
        )
        assert "expected a shard with 1 tensors" in refused(folder)


@pytest.mark.parametrize(
    "index",
    ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": []}'],
)
def test_a_broken_index_is_named(tmp_path, index):
    sharded(tmp_path, {"model-00001-of-00001.safetensors": ["a"]}).write_text(index)
    message = refused(tmp_path)
    assert f"{tmp_path / 'model.safetensors.index.json'}: expected a weight_map" in message


def test_shards_without_their_index_are_refused_with_what_is_missing(tmp_path):
    weights(tmp_path / "model-00002-of-00003.safetensors", ["a"])
    assert [line.partition(": ")[0] for line in refused(tmp_path).splitlines()[1:]] == [
        f"- {tmp_path / name}"
        for name in (
            "model-00001-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json",
        )
    ]


def test_a_folder_without_weights_is_refused(tmp_path):
    assert refused(tmp_path) == (
        f"{tmp_path}: expected a model in safetensors files, but found none there; give the folder "
        f"that holds model.safetensors, or a diffusers pipeline."
    )


@pytest.mark.parametrize("text", ["", "[]", "{", "\ufeff{}", "5"])
def test_a_broken_config_is_named(tmp_path, text):
    folder = model(tmp_path / "model", config={})
    (folder / "config.json").write_text(text, encoding="utf-8")
    assert f"{folder / 'config.json'}: expected a JSON object" in refused(folder)


def test_a_path_that_is_not_there_is_refused_without_asking_the_hub(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # would be an ImportError
    for source in (tmp_path / "none", "none", "a/b/c", "./a"):
        assert refused(source) == (
            f"{source}: expected a folder, a .safetensors file or a hub id, but found no such file "
            f"or folder here; check the path."
        )


def test_a_hub_id_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert refused("me/no-model-here").endswith(
        'check the path or, for hub ids, install m2n2lab with its extra: "m2n2lab[llm]".'
    )


HUB = """
import json, sys
from m2n2lab.checkpoint import Checkpoint, Problems
for id in sys.argv[1:]:
    try:
        found = Checkpoint.open(id)
        print(json.dumps([found.id, found.kind, str(found.path), found.merged, found.licence]))
    except Problems as problems:
        print(json.dumps(str(problems)))
"""


def test_hub_ids_are_found_in_the_local_cache(tmp_path):
    commit, old = "1" * 40, "2" * 40
    cache = tmp_path / "hub" / "models--me--tiny"
    for id, names in ((commit, ["a"]), (old, ["b"])):
        blob = weights(cache / "blobs" / id, names)
        place = cache / "snapshots" / id
        place.mkdir(parents=True)
        (place / "model.safetensors").symlink_to(os.path.relpath(blob, place))
        (place / "config.json").write_text('{"architectures": ["X"]}')
        (place / "README.md").write_text("---\nlicense: mit\n---\n")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    (cache / "refs" / "v1").write_text(old)
    ids = ["me/tiny", "me/tiny@v1", f"me/tiny@{old}", "me/tiny@v2", "me/other"]
    told = subprocess.run(
        [sys.executable, "-c", HUB, *ids],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    *found, no_revision, no_model = map(json.loads, told.splitlines())
    assert found == [
        [id, "transformers", str(cache / "snapshots" / place), names, "mit"]
        for id, place, names in zip(ids, (commit, old, old), (["a"], ["b"], ["b"]), strict=False)
    ]
    for id, message in (("me/tiny@v2", no_revision), ("me/other", no_model)):
        assert message.startswith(
            f"{id}: expected a folder, a .safetensors file or a hub id, but found no such file or "
            f"folder here, and the hub says: "
        )
        assert "HF_HUB_OFFLINE" in message
        assert message.endswith(
            "; check the name and the connection, or give the path of a local copy."
        )


# -- the flat vector ------------------------------------------------------------------------------

ORDER = [
    "model.embed_tokens.weight",
    "model.layers.0.mlp.up_proj.bias",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.2.mlp.experts.9.weight",
    "model.layers.2.mlp.experts.10.weight",
    "model.layers.10.mlp.up_proj.weight",
    "model.norm.weight",
    "zeta",
    "lm_head.weight",
]


@pytest.mark.parametrize("draw", range(3))
def test_the_order_is_that_of_names_whatever_that_of_the_file(tmp_path, draw):
    names = np.random.default_rng(draw).permutation(ORDER).tolist()
    checkpoint = Checkpoint.open(weights(tmp_path / "a.safetensors", names))
    assert [*checkpoint.files[0].entries] == names
    assert [*checkpoint.merged] == ORDER
    assert checkpoint.layout.offsets == (*range(0, 18, 2), 18)


def test_components_come_one_after_the_other_each_with_its_head_last(tmp_path):
    names = ["lm_head.weight", "z.10", "z.9"]
    path = pipeline(tmp_path / "p", {"unet": names, "text_encoder_2": names, "text_encoder": names})
    assert Checkpoint.open(path).merged == tuple(
        f"{component}/{name}"
        for component in ("text_encoder", "text_encoder_2", "unet")
        for name in ("z.9", "z.10", "lm_head.weight")
    )


@given(st.sets(st.text("ab.1029²٣-_/", max_size=8)))
def test_any_names_have_an_order(names):
    order = sorted(names, key=depth)
    backwards = list(reversed(order))
    assert sorted(backwards, key=depth) == order


def test_integers_and_buffers_are_carried(tmp_path):
    contents = {
        "h.0.attn.bias": torch.ones(1, 1, 4, 4),  # a causal mask
        "h.0.attn.masked_bias": torch.tensor(-1e4),
        "h.0.attn.c_attn.bias": torch.ones(12),
        "h.0.attn.proj.weight": torch.ones(4, 4),
        "vit.attention.bias": torch.ones(4),  # no mask
        "ids": torch.arange(3),
        "embeddings.position_ids": torch.arange(4.0),
        "rotary_emb.inv_freq": torch.ones(2),
        "inv_freq": torch.ones(2),
        "not_inv_freq": torch.ones(2),
        "bn.running_mean": torch.ones(2),
        "bn.running_var": torch.ones(2),
        "bn.num_batches_tracked": torch.tensor(3),
        "mask": torch.ones(2, dtype=torch.bool),
        "none": torch.ones(0, 2),
        "scale": torch.tensor(2.0),  # 0-d, and a weight
        "c": torch.ones(2, dtype=torch.complex64),
    }
    checkpoint = Checkpoint.open(checkpoints.tensors(tmp_path / "a.safetensors", contents))
    assert checkpoint.merged == (
        "h.0.attn.c_attn.bias",
        "h.0.attn.proj.weight",
        "not_inv_freq",
        "scale",
        "vit.attention.bias",
    )
    assert set(checkpoint.carried) == set(contents) - set(checkpoint.merged)
    assert checkpoint.layout.size == 12 + 16 + 2 + 1 + 4
    assert bytes(checkpoint.raw("ids")) == torch.arange(3).numpy().tobytes()
    assert len(checkpoint.raw("none")) == 0


@pytest.mark.parametrize(("tie", "alias"), [(True, True), (False, False), (None, False)])
def test_a_tied_head_in_the_file_is_another_name_of_the_embedding(tmp_path, tie, alias):
    names = ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"]
    config = {"architectures": ["L"], "tie_word_embeddings": tie}
    checkpoint = Checkpoint.open(model(tmp_path / "model", names, config, shape=(3, 2)))
    assert checkpoint.tied == ({names[0]: names[1]} if alias else {})
    assert checkpoint.merged == (names[1], names[2], *(() if alias else names[:1]))
    assert checkpoint.carried == ()


def test_a_head_of_another_shape_is_tied_to_nothing(tmp_path):
    folder = model(tmp_path / "model", ["wte.weight"], {"tie_word_embeddings": True}, shape=(3, 2))
    sharded(folder, {"one.safetensors": ["wte.weight"], "two.safetensors": ["lm_head.weight"]})
    (folder / "model.safetensors").unlink()
    weights(folder / "two.safetensors", ["lm_head.weight"], shape=(4, 2))
    checkpoint = Checkpoint.open(folder)
    assert (checkpoint.tied, checkpoint.merged) == ({}, ("wte.weight", "lm_head.weight"))


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- x\n---\nText", "apache-2.0"),
        ('---\r\ntags: x\r\nlicense: "mit"\r\n---\r\n', "mit"),
        ("---\nlicense:\n- cc-by-4.0\n- mit\n---\n", "cc-by-4.0"),
        ("---\nlicense: [llama3, mit] # both\n---\n", "llama3"),
        ("---\nlicense:\nlanguage: en\n---\n", None),
        ("---\nlicense_name: mine\n---\n", None),
        ("---\ntags: x\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("---\nlicense: mit\n", None),  # the front matter never ends
        ("", None),
        (None, None),
    ],
)
def test_the_licence_is_what_the_card_says(tmp_path, card, licence):
    model(tmp_path)
    if card is not None:
        (tmp_path / "README.md").write_bytes(card.encode())
    assert Checkpoint.open(tmp_path).licence == licence


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "LlamaForCausalLM"),
        ({"architectures": None, "model_type": "llama"}, "llama"),
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ({}, ""),
    ],
)
def test_the_architecture_is_what_the_config_says(tmp_path, config, architecture):
    (part,) = Checkpoint.open(model(tmp_path, config=config)).parts
    assert part.architecture == architecture


def test_opening_reads_headers_alone(tmp_path, monkeypatch):
    # 8 GiB that take no place on the disk: 2^32 numbers in two tensors.
    path = tmp_path / "huge.safetensors"
    shapes = {"a.weight": ("BF16", (1 << 15, 1 << 16)), "b.weight": ("BF16", (1 << 31,))}
    header = make_header(shapes, {})
    path.write_bytes(header)
    os.truncate(path, len(header) + (8 << 30))
    whole = Checkpoint.open(path)
    assert not whole.array("b.weight")[-3:].any()  # all can be reached

    def mapped(*args, **options):
        raise AssertionError("weights were looked at")

    monkeypatch.setattr("m2n2lab.checkpoint.format.mmap.mmap", mapped)
    checkpoint = Checkpoint.open(path)
    assert (checkpoint.layout.size, checkpoint.carried, checkpoint.tied) == (1 << 32, (), {})
    assert checkpoint.layout.locate((1 << 31) - 1) == "a.weight row 32767"
    with pytest.raises(AssertionError, match="looked at"):
        checkpoint.array("a.weight")


# -- problems -------------------------------------------------------------------------------------


def test_a_problem_is_a_sentence():
    one = Problem(file="f", expected="a", found="b", fix="do c")
    two = Problem(file="f", tensor="t", expected="a", found="b", fix="do c")
    assert str(one) == "f: expected a, but found b; do c."
    assert str(two) == "f, tensor t: expected a, but found b; do c."
    assert str(Problems(one)) == str(one)
    assert str(Problems(one, two)) == f"2 problems were found:\n- {one}\n- {two}"


def test_a_problem_is_named_once():
    problem = Problem(file="f", expected="a", found="b", fix="do c")
    problems = Collector()
    problems.check()
    problems.extend([problem, problem])
    problems.add(Problem(file="f", expected="a", found="b", fix="do c"))
    with pytest.raises(Problems) as caught:
        problems.check()
    assert caught.value.problems == (problem,)


def test_files_that_are_right_are_found_beside_those_that_are_not(tmp_path):
    one, two = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    sharded(tmp_path, {one: ["a"], two: ["b"]})
    (tmp_path / two).write_bytes(b"")
    problems = Collector()
    assert [file.path.name for file in weight_files(tmp_path, problems)] == [one]
    assert len(problems.found) == 1
