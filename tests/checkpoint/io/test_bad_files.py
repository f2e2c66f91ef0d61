import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import change, pipeline, tensors
from helpers.merges import copy, refused, says
from safetensors.torch import load_file

from m2n2lab import CheckpointSpace, preflight

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@pytest.fixture
def here(models, here):
    """A folder to work in, with a checkpoint ``a``."""
    shutil.copytree(models / "a", "a")
    return here


# -- files that are broken or in another format -------------------------------------------------


def test_a_missing_shard_is_named_and_nothing_is_concluded_from_it(here, models):
    (copy(models, "sharded", "b") / "model-00002-of-00002.safetensors").unlink()
    error = refused("a", "b")
    says(error, "b/model-00002-of-00002.safetensors: expected a shard with 11 tensors, as model.")
    says(error, "but found no such file; download or copy it as well.")
    assert len(error.strip().splitlines()) == 1


def test_a_missing_index_is_named(here, models):
    (copy(models, "sharded", "b") / "model.safetensors.index.json").unlink()
    error = refused("a", "b")
    says(
        error,
        "b/model.safetensors.index.json: expected every shard and their index, but found no",
    )


def truncated(data):
    return data[:-100]


def appended_to(data):
    return data + b"12345678"


def header_too_long(data):
    return (10**15).to_bytes(8, "little") + data[8:]


def garbage(data):
    return data[:8] + b"\xff" * (len(data) - 8)


def shifted(data):
    return data.replace(b'"data_offsets":[0,', b'"data_offsets":[2,', 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, ["expected 41,344 bytes, as its header says", "41,244 bytes", "truncated"]),
        (appended_to, ["expected 41,344 bytes, as its header says", "41,352 bytes", "appended"]),
        (header_too_long, ["a safetensors file"]),
        (garbage, ["a safetensors file", "a header that is not JSON"]),
        (shifted, ["contiguous tensors of the length", "tensor "]),
    ],
)
def test_a_damaged_file_is_named_with_what_it_should_be(damage, words, here, models):
    file = copy(models, "b", "b") / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    error = refused("a", "b")
    says(error, "b/model.safetensors", *words)
    says(error, "download or copy", "again.")
    assert len(error.strip().splitlines()) == 1


class Trap:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_with_code_are_refused_and_the_code_is_not_run(name, alone, zipped, here, models):
    pickle.loads(pickle.dumps(Trap()))  # it would
    os.rmdir("sprung")
    (copy(models, "b", "b") / "model.safetensors").unlink()
    torch.save({"w": Trap()}, Path("b", name), _use_new_zipfile_serialization=zipped)
    error = refused("a", Path("b", name) if alone else "b")
    if name == "weights.pkl":
        says(error, f"b/{name}: expected safetensors, but found a pickle, which can run any code")
    else:
        says(error, f"b/{name}: expected a pickle of nothing but tensors, but found one that asks")
        says(error, "which was not run (posix.mkdir)")
    says(error, "safetensors.torch.save_file")
    assert not Path("sprung").exists()


def test_a_pickle_beside_safetensors_is_no_problem(here, models):
    Path(copy(models, "b", "b"), "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    assert preflight(["a", "b"]).problems == ()


@pytest.mark.parametrize("name", ["adapter", "adapter/adapter_model.safetensors"])
def test_lora_adapters_without_a_base_ask_for_it(name, here):
    low = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32)}
    tensors("adapter/adapter_model.safetensors", low)
    Path("adapter/adapter_config.json").write_text('{"peft_type": "LORA"}')
    error = refused("a", name)
    says(error, "adapter/adapter_config.json: expected its base", "no base_model_name_or_path")
    says(error, "name it yourself: BASE+adapter")
    assert len(error.strip().splitlines()) == 1


def test_a_lora_of_a_diffusion_model_is_recognised(here):
    tensors("style.safetensors", {"lora_unet_mid_block.lora_down.weight": torch.zeros(4, 32)})
    says(refused("a", "style.safetensors"), "style.safetensors, tensor lora_unet_mid", "LoRA")


PROJECTION = "model.layers.0.self_attn.q_proj."


@pytest.mark.parametrize(
    ("quantised", "words"),
    [
        ({"weight": torch.zeros(32, 32, dtype=torch.float8_e8m0fnu)}, ["F8_E8M0"]),
        ({"weight": torch.zeros(32, 32, dtype=torch.int8)}, ["I8"]),
        ({"weight": torch.zeros(512, 1, dtype=torch.uint8)}, ["U8"]),
        ({"qweight": torch.zeros(4, 32, dtype=torch.int32), "weight": None}, ["q_proj.qweight"]),
    ],
    ids=["fp8", "int8", "4-bit", "GPTQ"],
)
def test_quantised_tensors_are_refused_and_named(quantised, words, here, models):
    file = copy(models, "b", "b") / "model.safetensors"
    change(file, {PROJECTION + name: value for name, value in quantised.items()})
    error = refused("a", "b")
    says(error, "b/model.safetensors, tensor " + PROJECTION, "quantised weights", *words)
    says(
        error,
        "expected weights in bfloat16, float16, float32",
        "use the model before quantisation",
    )


def test_a_config_with_quantisation_is_refused(here, models):
    file = copy(models, "b", "b") / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    error = refused("a", "b")
    says(error, "b/config.json: expected weights in", "quantization_config", "dequantise")


@pytest.mark.parametrize("name", ["b", "b/model-Q4.gguf"])
def test_gguf_is_refused(name, here):
    Path("b").mkdir()
    Path("b/model-Q4.gguf").write_bytes(b"GGUF" + bytes(100))
    error = refused("a", name)
    says(error, "b/model-Q4.gguf: expected safetensors, but found a GGUF file", "it was made from")


def test_what_is_not_there_or_empty_is_named(here):
    Path("empty").mkdir()
    says(refused("a", "nowhere"), "nowhere: expected a folder", "no such file", "check the path")
    says(refused("a", "empty"), "empty: expected a model in safetensors files, but found none")


def test_integers_alone_are_nothing_to_merge(here):
    for name in "xy":
        tensors(f"{name}.safetensors", {"ids": torch.arange(5)})
    says(refused("x.safetensors", "y.safetensors"), "x.safetensors: expected weights in", "none")


def test_pipelines_and_their_components_are_distinguished(here):
    pipeline("x")
    pipeline("y", 1)
    says(refused("x", "y/unet"), "y/unet: expected a pipeline of several models, as x is", "one")
    error = refused("x", "y", "--component", "unett")
    says(error, "x: expected a component 'unett', but found only", "unet, vae; choose among these")
    shutil.rmtree("y/unet")
    error = refused("x", "y")
    says(error, "y: expected a component 'unet', as x has, but found only text_encoder", "choose")
    assert len(error.strip().splitlines()) == 1


# -- what only the weights show ----------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", HALVES)
def test_nan_and_infinity_are_named_by_file_tensor_and_place(dtype, value, here):
    for name in "xy":
        draw = torch.Generator().manual_seed(ord(name))
        weights = torch.randn(60, 50, generator=draw).to(HALVES[dtype])
        if name == "y":
            weights[51, 3] = value
        tensors(f"{name}.safetensors", {"norm": torch.ones(7, dtype=HALVES[dtype]), "w": weights})
    error = refused("x.safetensors", "y.safetensors")
    says(error, "y.safetensors, tensor w: expected finite numbers, but found NaN or infinity at")
    says(error, "element 2,553 (w row 51)", "repair this checkpoint or leave it out")
    assert "x.safetensors" not in error


def test_nan_in_several_seeds_is_named_for_each(here):
    for name in "xy":
        tensors(f"{name}.safetensors", {"w": torch.tensor([1.0, float("nan")])})
    error = refused("x.safetensors", "y.safetensors")
    says(error, "2 problems", "- x.safetensors, tensor w", "- y.safetensors, tensor w", "element 1")


def test_what_does_not_fit_into_float16_is_named(here):
    for name in "xy":
        tensors(f"{name}.safetensors", {"w": torch.tensor([1.0, 2.0, 65_519.0, 70_000.0, 5.0])})
    error = refused("x.safetensors", "y.safetensors", "--dtype", "fp16")
    says(error, "tensor w: expected numbers within the range of F16, but found a larger one at")
    says(error, "element 3", "choose a wider dtype")


# -- defined where SLERP is not ----------------------------------------------------------------

LINE = np.array([1.0, -2.0, 3.0, 0.5], np.float32)


@pytest.mark.parametrize(
    ("a", "b", "merged"),
    [
        (LINE, 0 * LINE, 0.75 * LINE),
        (0 * LINE, LINE, 0.25 * LINE),
        (0 * LINE, 0 * LINE, 0 * LINE),
        (LINE, -LINE, 0.5 * LINE),
        (LINE, 2 * LINE, 1.25 * LINE),
        (LINE, LINE, LINE),
    ],
    ids=["zero B", "zero A", "both zero", "opposite", "parallel", "equal"],
)
@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_without_an_angle_the_merge_is_linear(a, b, merged, granularity, here):
    for name, value in (("x", a), ("y", b)):
        tensors(f"{name}.safetensors", {"w": value})
    space = CheckpointSpace("x.safetensors", "y.safetensors", granularity=granularity)
    space.save(space.merge(*space.seeds, space.size, 0.25), "out")
    assert np.array_equal(load_file("out/x.safetensors")["w"].numpy(), merged)


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_single_numbers_are_merged_and_empty_tensors_carried(granularity, here):
    for name, value in (("x", 2.0), ("y", 4.0)):
        tensors(
            f"{name}.safetensors",
            {"scale": torch.tensor(value), "none": torch.empty(0, 4), "w": torch.ones(2)},
        )
    space = CheckpointSpace("x.safetensors", "y.safetensors", granularity=granularity)
    assert space.layout.shapes == {"scale": (), "w": (2,)}
    space.save(space.merge(*space.seeds, 1, 0.25), "out")
    merged = load_file("out/x.safetensors")
    assert merged["scale"].shape == ()
    assert merged["none"].shape == (0, 4)
    if granularity == "tensor":  # numbers of one sign are parallel
        assert merged["scale"] == 2.5
        assert torch.equal(merged["w"], torch.ones(2))
    else:
        assert 2.0 < merged["scale"] < 3.0


def test_a_zero_tensor_among_others_stays_zero(here):
    for name, value in (("x", 1.0), ("y", -3.0)):
        tensors(
            f"{name}.safetensors",
            {"bias": torch.zeros(3), "w": torch.tensor([value, 1.0])},
        )
    for granularity in ("model", "tensor"):
        space = CheckpointSpace("x.safetensors", "y.safetensors", granularity=granularity)
        space.save(space.merge(*space.seeds, 2, 0.4), granularity)
        assert not load_file(f"{granularity}/x.safetensors")["bias"].any()
