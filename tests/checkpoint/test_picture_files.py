"""Single files of picture models: their parts, their names, and one file out."""

import json
import sys

import numpy as np
import pytest
from helpers.checkpoints import tensors
from helpers.single_files import CLIP, METADATA, PREFIX, UNET, a1111, read, single, weights

import m2n2lab
from m2n2lab import InputError
from m2n2lab.checkpoint import Checkpoint, preflight
from m2n2lab.cli import main


def own_slerp(a, b, names, mix):
    """Return the float64 SLERP of flat vectors, as arrays of the names in ``a`` and ``b``."""
    x, y = (
        np.concatenate([f[n].astype(np.float64).ravel() for n in ns])
        for f, ns in zip((a, b), names, strict=True)
    )
    omega = np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    return (np.sin((1 - mix) * omega) * x + np.sin(mix * omega) * y) / np.sin(omega)


def test_denoiser_and_text_encoder_are_merged_and_all_else_is_carried(tmp_path):
    a, b = a1111(0), a1111(1)
    b["first_stage_model.decoder.conv_out.weight"] = np.full((3, 3), 9.0, np.float16)
    files = [single(tmp_path, k, contents) for k, contents in enumerate((a, b))]
    space = m2n2lab.CheckpointSpace(*files)
    space.save(space.merge(*space.seeds, space.size, 0.4), tmp_path / "merged.safetensors")
    made, _ = read(tmp_path / "merged.safetensors")
    merged = [name for name in a if name.startswith((PREFIX, CLIP)) and "position" not in name]
    wanted = own_slerp(a, b, (merged, merged), 0.4)
    got = np.concatenate([made[name].astype(np.float64).ravel() for name in merged])
    np.testing.assert_allclose(got, wanted, rtol=2**-10, atol=1e-7)
    for name in set(a) - set(merged):
        np.testing.assert_array_equal(made[name], a[name])
        assert made[name].dtype == a[name].dtype
    assert set(made) == set(a)


def test_one_file_comes_out_with_the_order_and_the_metadata_of_a(tmp_path):
    files = [single(tmp_path, 0, metadata=METADATA), single(tmp_path, 1)]
    space = m2n2lab.CheckpointSpace(*files)
    out = tmp_path / "out" / "merged.safetensors"
    space.save(space.merge(*space.seeds, space.size // 2, 0.4), out)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        *("merged.md", "merged.recipe.json", "merged.safetensors"),
    ]
    orders = [list(Checkpoint.open(path).files[0].entries) for path in (out, files[0])]
    assert orders[0] == orders[1]
    _, metadata = read(out)
    recipe = json.loads(metadata.pop("m2n2lab"))
    assert recipe["recipe"] == json.loads((out.parent / "merged.recipe.json").read_text())["recipe"]
    assert metadata == {k: v for k, v in METADATA.items() if "hash" not in k}
    m2n2lab.rebuild(out.parent / "merged.recipe.json", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_a_file_is_not_overwritten_and_folders_do_not_become_files(tmp_path):
    from helpers.checkpoints import llama

    space = m2n2lab.CheckpointSpace(single(tmp_path, 0), single(tmp_path, 1))
    child = space.seeds[0]
    for taken in ("merged.safetensors", "merged.recipe.json", "merged.md"):
        (tmp_path / taken).write_text("mine")
        with pytest.raises(InputError, match="something already there"):
            space.save(child, tmp_path / "merged.safetensors")
        assert (tmp_path / taken).read_text() == "mine"
        (tmp_path / taken).unlink()
    llamas = m2n2lab.CheckpointSpace(llama(tmp_path / "l"), llama(tmp_path / "m", 1))
    with pytest.raises(
        InputError, match=r"the name of a folder, .* that of a file; choose a folder"
    ):
        llamas.save(llamas.seeds[0], tmp_path / "merged.safetensors")
    assert not list(tmp_path.glob("*merged*"))


@pytest.mark.parametrize(
    "lost",
    [
        ("first_stage_model.",),
        ("alphas_cumprod", "betas"),
        (CLIP,),
        ("first_stage_model.", CLIP, "alphas_cumprod", "betas"),
    ],
)
def test_a_file_without_some_parts_is_merged_and_those_of_a_are_kept(tmp_path, lost):
    a = a1111(0)
    b = {name: value for name, value in a1111(1).items() if not name.startswith(lost)}
    files = [single(tmp_path, k, contents) for k, contents in enumerate((a, b))]
    space = m2n2lab.CheckpointSpace(*files)
    space.save(space.merge(*space.seeds, space.size, 0.4), tmp_path / "merged.safetensors")
    made, _ = read(tmp_path / "merged.safetensors")
    assert set(made) == set(a)
    for name in a:
        if name.startswith(lost):
            np.testing.assert_array_equal(made[name], a[name])
    assert not np.array_equal(made[f"{PREFIX}out.2.weight"], a[f"{PREFIX}out.2.weight"])
    if CLIP in lost:
        assert any("text encoders (3 tensors)" in note for note in space.notes)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model_ema.decay", "model_ema.out2weight"], "EMA (2 tensors)"),
        (["cond_stage_model.logit_scale"], "logit scale (1 tensor)"),
        ([f"{CLIP}text_projection.weight"], "text encoders (1 tensor)"),
    ],
)
@pytest.mark.parametrize("owner", [0, 1])
def test_keys_that_one_file_has_are_carried_or_left_out_with_a_note(tmp_path, names, words, owner):
    more = {name: np.full((2, 2), 3.0, np.float32) for name in names}
    contents = [a1111(k, **(more if k == owner else {})) for k in range(2)]
    files = [single(tmp_path, k, each) for k, each in enumerate(contents)]
    space = m2n2lab.CheckpointSpace(*files)
    text = " ".join(space.notes)
    assert words in text
    assert ("left out" in text) == (owner == 1)
    space.save(space.seeds[1], tmp_path / "merged.safetensors")
    made, _ = read(tmp_path / "merged.safetensors")
    assert set(made) == set(contents[0])
    for name in set(more) & set(made):
        np.testing.assert_array_equal(made[name], more[name])


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("prefix", ["diffusion_model.", ""])
def test_denoisers_under_any_prefix_fit(tmp_path, prefix, first):
    contents = [a1111(0), weights(1, UNET, prefix)]
    files = [single(tmp_path, k, each) for k, each in enumerate(contents)]
    order = [first, 1 - first]
    space = m2n2lab.CheckpointSpace(*(files[k] for k in order))
    space.save(space.merge(*space.seeds, space.size, 0.3), tmp_path / "merged.safetensors")
    made, _ = read(tmp_path / "merged.safetensors")
    assert set(made) == set(contents[first])
    prefixes = [(PREFIX, prefix)[k] for k in order]
    names = [[f"{start}{name}" for name in UNET] for start in prefixes]
    wanted = own_slerp(contents[order[0]], contents[order[1]], names, 0.3)
    got = np.concatenate([made[name].astype(np.float64).ravel() for name in names[0]])
    np.testing.assert_allclose(got, wanted, rtol=2**-10, atol=1e-7)


def test_text_encoders_with_and_without_text_model_fit(tmp_path):
    b = {name.replace("text_model.", ""): value for name, value in a1111(1).items()}
    files = [single(tmp_path, k, each) for k, each in enumerate((a1111(0), b))]
    plain = m2n2lab.CheckpointSpace(files[0], single(tmp_path, 1, name="plain.safetensors"))
    space = m2n2lab.CheckpointSpace(*files)
    assert space.layout.shapes == plain.layout.shapes
    assert space.angle(*space.seeds) == plain.angle(*plain.seeds)


def test_denoisers_that_differ_are_refused_still(tmp_path):
    b = {name: value for name, value in a1111(1).items() if "out.2" not in name}
    files = [single(tmp_path, k, each) for k, each in enumerate((a1111(0), b))]
    found = preflight(files)
    (problem,) = found.problems
    assert problem.tensor == f"{PREFIX}out.2.weight"


def test_the_command_writes_one_file(tmp_path, monkeypatch, capsys):
    files = [single(tmp_path, 0, name="A.sft"), single(tmp_path, 1, name="B.sft")]
    out = tmp_path / "merged.sft"
    monkeypatch.setattr(sys, "argv", ["m2n2lab", "merge", *map(str, files), "-o", str(out)])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    assert out.is_file()
    assert f"{out.stat().st_size:,} bytes" in captured.err
    assert "The result carries what is not merged" in " ".join(captured.err.split())


@pytest.mark.parametrize(
    "names",
    [
        ("lycoris_a.hada_w1_a", "lycoris_a.hada_w1_b"),
        ("lycoris_a.lokr_w1", "lycoris_a.lokr_w2"),
        ("lora_unet_a.lora_down.weight", "lora_unet_a.lora_up.weight"),
    ],
)
def test_adapters_are_no_models(tmp_path, names):
    files = [
        tensors(tmp_path / f"{k}.safetensors", {n: np.ones((2, 2), np.float32) for n in names})
        for k in range(2)
    ]
    with pytest.raises(InputError, match="found an adapter such as a LoRA"):
        m2n2lab.CheckpointSpace(*files)


def test_position_ids_as_floats_are_repaired_with_a_note(tmp_path):
    ids = f"{CLIP}text_model.embeddings.position_ids"
    a = a1111(0, **{ids: np.array([[0, 1, 1.9, 3.1]], np.float16)})
    space = m2n2lab.CheckpointSpace(single(tmp_path, 0, a), single(tmp_path, 1))
    assert any("position ids of text encoders as floats" in note for note in space.notes)
    space.save(space.seeds[1], tmp_path / "merged.safetensors")
    made, _ = read(tmp_path / "merged.safetensors")
    assert made[ids].dtype == np.int64
    assert made[ids].tolist() == [[0, 1, 2, 3]]
    whole = m2n2lab.CheckpointSpace(
        single(tmp_path, 1, name="C.safetensors"), single(tmp_path, 0, a, "D.safetensors")
    )
    assert not any("position ids" in note for note in whole.notes)


def test_the_merged_file_loads_in_diffusers_as_the_merged_folder_does(tmp_path):
    import torch
    from diffusers import UNet2DConditionModel
    from helpers.sdxl import sdxl, single_file
    from safetensors.torch import load_file

    folders = [sdxl(tmp_path / name, seed) for seed, name in enumerate("ab")]
    files = [single_file(f, tmp_path / f"{f.name}.safetensors") for f in folders]
    space = m2n2lab.CheckpointSpace(*files)
    space.save(space.merge(*space.seeds, space.size, 0.3), tmp_path / "merged.safetensors")
    plain = m2n2lab.CheckpointSpace(*folders, components=["unet"])
    wanted = plain.materialise(plain.merge(*plain.seeds, plain.size, 0.3)).unet.state_dict()
    loaded = UNet2DConditionModel.from_single_file(
        str(tmp_path / "merged.safetensors"),
        config=str(folders[0]),
        subfolder="unet",
        local_files_only=True,
    ).state_dict()
    assert set(loaded) == set(wanted)
    a, b = (load_file(f / "unet/diffusion_pytorch_model.safetensors") for f in folders)
    for name in wanted:
        if torch.equal(a[name], b[name]):
            assert torch.equal(loaded[name], a[name])
        else:
            torch.testing.assert_close(loaded[name], wanted[name], rtol=1e-5, atol=1e-6)
