"""The flat vector of a checkpoint: what is in it, in which order, and what is not."""

import os

import numpy as np
import pytest
import torch
from helpers import checkpoints
from helpers.stubs import model, pipeline, sharded, weights
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab.checkpoint import Checkpoint, Problems
from m2n2lab.checkpoint.io.checkpoint import sort_key
from m2n2lab.checkpoint.io.folder import weight_files
from m2n2lab.checkpoint.io.problems import Collector, Problem
from m2n2lab.checkpoint.io.tensor_file import make_header

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
    order = sorted(names, key=sort_key)
    backwards = list(reversed(order))
    assert sorted(backwards, key=sort_key) == order


def test_integers_and_constants_are_carried_and_statistics_are_no_part_of_the_vector(tmp_path):
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
    assert checkpoint.buffers == ("bn.running_mean", "bn.running_var")
    assert set(checkpoint.carried) == set(contents) - {*checkpoint.merged, *checkpoint.buffers}
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
        raise AssertionError("weights were read")

    monkeypatch.setattr("m2n2lab.checkpoint.io.tensor_file.map_file", mapped)
    checkpoint = Checkpoint.open(path)
    assert (checkpoint.layout.size, checkpoint.carried, checkpoint.tied) == (1 << 32, (), {})
    assert checkpoint.layout.locate((1 << 31) - 1) == "a.weight row 32767"
    with pytest.raises(AssertionError, match="weights were read"):
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
