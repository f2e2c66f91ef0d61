"""Weights of blocks: the field's names for folders, single files and transformers."""

import numpy as np
import pytest

from m2n2lab import DenseSpace, InputError, Layout, Proposal
from m2n2lab.core.operators import Blocks, Crossover, Splits
from m2n2lab.core.operators.blocks import PRESETS, blocks_of, sorted_blocks
from m2n2lab.core.operators.parts import crossover_rng

SD15 = [f"IN{i:02}" for i in range(12)] + ["MID"] + [f"OUT{i:02}" for i in range(12)]
SDXL = [f"IN{i:02}" for i in range(9)] + ["MID"] + [f"OUT{i:02}" for i in range(9)]
FLUX = [f"D{i:02}" for i in range(19)] + [f"S{i:02}" for i in range(38)]

NAMES = {
    # Folders of diffusers: SD 1.5 has two layers in each block on the way down.
    "unet/conv_in.weight": "IN00",
    "unet/time_embedding.linear_1.weight": "IN00",
    "unet/add_embedding.linear_1.weight": "IN00",
    "unet/down_blocks.0.resnets.0.conv1.weight": "IN01",
    "unet/down_blocks.0.attentions.1.proj_in.weight": "IN02",
    "unet/down_blocks.0.downsamplers.0.conv.weight": "IN03",
    "unet/down_blocks.3.resnets.1.conv1.weight": "IN11",
    "unet/mid_block.attentions.0.norm.weight": "MID",
    "unet/up_blocks.0.resnets.2.conv1.weight": "OUT02",
    "unet/up_blocks.0.upsamplers.0.conv.weight": "OUT02",
    "unet/up_blocks.3.attentions.2.norm.weight": "OUT11",
    "unet/conv_norm_out.weight": "OUT11",
    "unet/conv_out.bias": "OUT11",
    "text_encoder/text_model.encoder.layers.3.mlp.fc1.weight": "BASE",
    "vae/encoder.down_blocks.0.resnets.0.conv1.weight": "BASE",
}
FILE = {
    "model.diffusion_model.time_embed.0.weight": "IN00",
    "model.diffusion_model.label_emb.0.0.weight": "IN00",
    "model.diffusion_model.input_blocks.0.0.weight": "IN00",
    "model.diffusion_model.input_blocks.8.1.norm.weight": "IN08",
    "model.diffusion_model.middle_block.1.norm.weight": "MID",
    "model.diffusion_model.output_blocks.8.0.in_layers.0.weight": "OUT08",
    "model.diffusion_model.out.0.weight": "OUT08",
    "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight": "BASE",
    "first_stage_model.decoder.up.0.block.0.conv1.weight": "BASE",
}
FLUX_FILE = {
    "double_blocks.0.img_attn.qkv.weight": "D00",
    "double_blocks.18.img_attn.qkv.weight": "D18",
    "single_blocks.37.linear1.weight": "S37",
    "img_in.weight": "BASE",
    "final_layer.linear.weight": "BASE",
}
FLUX_FOLDER = {
    "transformer/transformer_blocks.7.attn.to_q.weight": "D07",
    "transformer/single_transformer_blocks.7.attn.to_q.weight": "S07",
    "text_encoder_2/encoder.block.0.layer.0.SelfAttention.q.weight": "BASE",
    "transformer/proj_out.weight": "BASE",
}
SD3_FILE = {"model.diffusion_model.joint_blocks.23.x_block.attn.qkv.weight": "B23"}
SD3_FOLDER = {"transformer/transformer_blocks.23.attn.to_q.weight": "B23"}


@pytest.mark.parametrize("names", [NAMES, FILE, FLUX_FILE, FLUX_FOLDER, SD3_FILE, SD3_FOLDER])
def test_blocks_have_the_field_s_names_in_every_layout(names):
    assert dict(zip(names, blocks_of(list(names)), strict=True)) == names


def shares(weights, blocks):
    return Blocks(weights).by_block(blocks)


def test_ranges_reach_over_all_blocks_of_a_model_that_has_fewer():
    found = shares("IN00-IN11=0.3,MID=0.5,OUT00-OUT11=0.7", SDXL)
    assert found == {block: {"I": 0.3, "M": 0.5, "O": 0.7}[block[0]] for block in SDXL}
    assert shares("IN=0.1, M00=0.2, out3=1, IN02=0.5", SDXL) == {
        **{f"IN{i:02}": 0.1 for i in range(9)}, "IN02": 0.5, "MID": 0.2, "OUT03": 1.0,
    }  # fmt: skip
    assert shares("IN00-IN11,MID,OUT00-OUT11=0.4,MID=1", SDXL) == {
        block: 1.0 if block == "MID" else 0.4 for block in SDXL
    }
    assert list(shares("IN10-OUT01=0.4", SD15)) == ["IN10", "IN11", "MID", "OUT00", "OUT01"]
    assert list(shares({"D17-S01": 0.4, "BASE": 0}, ["BASE", *FLUX])) == [
        "D17", "D18", "S00", "S01", "BASE",
    ]  # fmt: skip


def test_presets_are_the_published_curves_and_fit_other_depths():
    assert list(shares("preset:GRAD_V", SD15).values()) == pytest.approx(
        [abs(i - 12) / 12 for i in range(25)]
    )
    assert [shares("preset:wrap08", SD15)[block] for block in SD15] == [1] * 4 + [0] * 17 + [1] * 4
    assert list(shares("preset:MID12_50", SD15).values()) == [0] * 5 + [0.5] * 14 + [0] * 6
    smooth = list(shares("preset:SMOOTHSTEP", SD15).values())
    assert smooth[:3] == pytest.approx([0, 0.00506365740740741, 0.0196759259259259])
    for name in PRESETS:
        assert len(shares(f"preset:{name}", SDXL)) == 19
    xl = shares("preset:GRAD_A,OUT08=0.25", SDXL)
    assert (xl["IN00"], xl["IN03"], xl["MID"], xl["OUT02"]) == pytest.approx((0, 1 / 3, 1, 2 / 3))
    assert xl["OUT08"] == 0.25  # the last counts


def test_a_list_gives_all_blocks_in_order_with_or_without_base():
    numbers = [i / 100 for i in range(26)]
    assert shares(",".join(map(str, numbers)), SD15) == dict(
        zip(["BASE", *SD15], numbers, strict=True)
    )
    assert shares(",".join(map(str, numbers[:19])), SDXL) == dict(
        zip(SDXL, numbers[:19], strict=True)
    )


@pytest.mark.parametrize(
    ("weights", "blocks", "words"),
    [
        ("IN09=0.5", SDXL, "IN00-IN08, MID, OUT00-OUT08, got 'IN09'"),
        ("D00=1", SD15, "got 'D00'"),
        ("preset:GRAD_V", FLUX, "the model has D00-D18, S00-S37"),
        ("0.1,0.2", SD15, "25 shares, or 26 with BASE"),
    ],
)
def test_blocks_that_a_model_has_not_are_refused(weights, blocks, words):
    with pytest.raises(InputError, match=words):
        shares(weights, blocks)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("IN00", "NAME=SHARE, got 'IN00'"),
        ("IN00=0.5,MID", "NAME=SHARE, got 'MID'"),
        ("IN00=1.5", r"must be a number in \[0, 1\], got 1.5"),
        ("IN00=half", "got 'half'"),
        ("HEAD=0.5", "got 'HEAD'"),
        ("preset:GRAD_X", "did you mean 'GRAD_"),
        ("IN00-FOO3=0.5", "got 'FOO3'"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused_at_once(weights, words):
    with pytest.raises(InputError, match=words):
        Blocks(weights)


def tiny():
    rng = np.random.default_rng(0)
    layout = Layout({"first": (4,), **dict.fromkeys(NAMES, (4,))})
    a, b = rng.standard_normal((2, layout.size)).astype(np.float32)
    return layout, DenseSpace([a, b], layout)


@pytest.mark.parametrize("linear", [False, True])
def test_each_block_has_its_own_share_and_all_others_the_proposal_s(linear):
    layout, space = tiny()
    a, b = (np.asarray(seed.values, np.float64) for seed in space.seeds)
    rule = Blocks("IN01=0.2,MID=1,OUT=0.9", linear)
    split = 2  # in the middle of a tensor without a weight
    proposal = Proposal((0, 1), split, 0.4, 0)
    child = rule(*space.seeds, proposal, space, crossover_rng(proposal))
    omega = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    blocks = np.repeat(blocks_of(list(layout.shapes)), 4)
    t = np.where(np.arange(layout.size) < split, 0.4, 0.6)
    t = np.where(blocks == "IN01", 0.2, t)
    t = np.where(blocks == "MID", 1.0, t)
    t = np.where(np.char.startswith(blocks, "OUT"), 0.9, t)
    ours = (1 - t) * a + t * b
    if not linear:
        ours = (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)
    np.testing.assert_allclose(child.values, ours, atol=1e-6)
    edges, mixes = rule.shares(proposal, layout, crossover_rng(proposal))
    assert np.repeat(mixes, np.diff(edges)) == pytest.approx(t)


def test_descriptions_say_which_block_has_what():
    layout, _ = tiny()
    text = Blocks("IN=0.3,MID=0.5,IN11=1").described(layout)
    assert text == "IN00-IN03 0.3, IN11 1, MID 0.5"
    assert Crossover.of(Blocks({"MID": 0.5}).description) == Blocks("MID=0.5")
    assert sorted_blocks(["OUT00", "MID", "BASE", "IN10", "IN02"]) == [
        "BASE", "IN02", "IN10", "MID", "OUT00",
    ]  # fmt: skip


def test_splits_lie_where_they_are_put():
    layout = Layout({"w": (100,)})
    rule = Splits(at=(0.75, 0.5))
    edges, mixes = rule.shares(Proposal((0, 1), 25, 0.2, 0), layout, None)
    assert (edges, mixes) == ([0, 25, 50, 75, 100], [0.2, 0.8, 0.2, 0.8])
    assert rule.splits == 3
    assert Crossover.of(rule.description) == rule
    with pytest.raises(InputError, match=r"at must be a number in \[0, 1\], got 2"):
        Splits(at=(2,))
