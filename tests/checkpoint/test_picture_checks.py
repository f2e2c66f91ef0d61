"""What does not belong together in picture models is told, although their weights fit."""

import json
import shutil
import sys

import numpy as np
import pytest
from helpers.checkpoints import tensors
from helpers.pictures import clip
from helpers.sdxl import sdxl
from safetensors.numpy import load_file

import m2n2lab
from m2n2lab import InputError
from m2n2lab.checkpoint import preflight
from m2n2lab.cli import main


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("checks")
    for seed, name in enumerate("ab"):
        sdxl(home / name, seed)
    return home


def changed(home, tmp_path, file, **values):
    """Return a copy of b whose JSON file has other values."""
    folder = shutil.copytree(home / "b", tmp_path / "changed")
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def notes(home, other, components=("unet",)):
    found = preflight([home / "a", other], components=list(components))
    assert not found.problems
    return [note for note in found.notes if "licence" not in note]


def test_models_of_one_kind_have_no_notes(home):
    assert notes(home, home / "b") == []


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "v_prediction"},
            "prediction_type v_prediction where that of {a} has epsilon: such denoisers are not",
        ),
        (
            "scheduler/scheduler_config.json",
            {"rescale_betas_zero_snr": True},
            "rescale_betas_zero_snr True where that of {a} has False: such denoisers are not",
        ),
        (
            "scheduler/scheduler_config.json",
            {"beta_schedule": "scaled_linear"},
            "beta_schedule scaled_linear where that of {a} has linear: it may draw worse",
        ),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "is FlowMatchEulerDiscreteScheduler where that of {a} is EulerDiscreteScheduler",
        ),
        (
            "vae/config.json",
            {"scaling_factor": 0.13025},
            "scaling_factor 0.13025 where that of {a} has 0.18215: its denoiser was trained on",
        ),
        (
            "text_encoder/config.json",
            {"hidden_size": 20},
            "text_encoder of {b} has hidden_size 20 where that of {a} has 16",
        ),
        (
            "model_index.json",
            {"requires_aesthetics_score": True},
            "{b} is a refiner",
        ),
    ],
)
def test_what_configs_say_is_told(home, tmp_path, file, values, words):
    other = changed(home, tmp_path, file, **values)
    (note,) = notes(home, other)
    assert words.format(a=home / "a", b=other) in note


def test_tokenizers_of_pipelines_that_differ_are_told(home, tmp_path):
    other = shutil.copytree(home / "b", tmp_path / "other")
    path = other / "tokenizer_2" / "tokenizer.json"
    words = json.loads(path.read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["a</w>"], vocabulary["b</w>"] = vocabulary["b</w>"], vocabulary["a</w>"]
    path.write_text(json.dumps(words))
    (note,) = notes(home, other)
    assert "The tokenizer_2s of" in note
    assert "token 2 is 'a</w>' in one and 'b</w>' in the other" in note


@pytest.mark.parametrize("marked", [0, 1])
def test_markers_of_one_single_file_are_told(tmp_path, marked):
    empty = {"v_pred": np.zeros(0, np.float32), "ztsnr": np.zeros(0, np.float32)}
    files = [
        tensors(
            tmp_path / f"{k}.safetensors",
            {
                "model.diffusion_model.x": np.full((3, 3), k + 1.0, np.float32),
                **(empty if k == marked else {}),
            },
        )
        for k in range(2)
    ]
    found = preflight(files)
    assert not found.problems
    text = " ".join(found.notes)
    assert f"{files[marked]} says that it predicts v (v_pred)" in text
    assert f"{files[marked]} says that its noise has a zero terminal SNR" in text


def test_inpainting_models_are_called_so(tmp_path):
    files = [
        tensors(
            tmp_path / f"{width}.safetensors",
            {
                "model.diffusion_model.input_blocks.0.0.weight": np.ones(
                    (4, width, 3, 3), np.float32
                ),
                "model.diffusion_model.out.2.weight": np.full((4, 4), width, np.float32),
            },
        )
        for width in (4, 9)
    ]
    offer = r"merge the 4 common channels, and keep its other 5, with channels='common'"
    with pytest.raises(InputError, match=rf"for inpainting\); name the .* first and {offer}"):
        m2n2lab.CheckpointSpace(*files)
    with pytest.raises(InputError, match=rf"for inpainting\); {offer}"):
        m2n2lab.CheckpointSpace(*files[::-1])


@pytest.mark.parametrize("crossover", ["slerp", "ties:base=1,density=0.5"])
def test_common_channels_are_merged_and_those_for_inpainting_are_kept(tmp_path, crossover):
    draws = np.random.default_rng(0)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    last = "model.diffusion_model.out.2.weight"
    a, b = (
        {
            first: draws.normal(size=(4, width, 3, 3)).astype(np.float32),
            last: draws.normal(size=(4, 4)).astype(np.float32),
        }
        for width in (9, 4)
    )
    files = [tensors(tmp_path / f"{k}.safetensors", each) for k, each in enumerate((a, b))]
    space = m2n2lab.CheckpointSpace(*files, channels="common")
    assert any("4 common ones are merged" in note for note in space.notes)
    assert space.layout.shapes[first] == (4, 4, 3, 3)
    rule = m2n2lab.Crossover.of(crossover)
    proposal = m2n2lab.core.records.Proposal((0, 1), space.size, 0.3, 0)
    child = rule(*space.seeds, proposal, space, draws)
    space.save(child, tmp_path / "merged.safetensors")
    made = load_file(tmp_path / "merged.safetensors")
    np.testing.assert_array_equal(made[first][:, 4:], a[first][:, 4:])
    if crossover == "slerp":
        x, y = (
            np.concatenate([f[first][:, :4].ravel(), f[last].ravel()]).astype(float) for f in (a, b)
        )
        omega = np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        wanted = (np.sin(0.7 * omega) * x + np.sin(0.3 * omega) * y) / np.sin(omega)
        got = np.concatenate([made[first][:, :4].ravel(), made[last].ravel()])
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)
    m2n2lab.rebuild(tmp_path / "merged.recipe.json", tmp_path / "again.safetensors")
    again = (tmp_path / "again.safetensors").read_bytes()
    assert again == (tmp_path / "merged.safetensors").read_bytes()


def test_a_pipeline_for_inpainting_is_drawn_with_as_it_is_saved(tmp_path):
    import torch
    from diffusers import UNet2DConditionModel
    from safetensors.torch import load_file as load

    folders = [sdxl(tmp_path / name, seed) for seed, name in enumerate("ab")]
    config = UNet2DConditionModel.load_config(folders[0] / "unet")
    wide = UNet2DConditionModel.from_config({**config, "in_channels": 9})
    wide.save_pretrained(folders[0] / "unet")
    space = m2n2lab.CheckpointSpace(*folders, components=["unet"], channels="common")
    child = space.merge(*space.seeds, space.size, 0.4)
    live = space.materialise(child).unet.state_dict()
    space.save(child, tmp_path / "out")
    saved = load(tmp_path / "out/unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(live[name], tensor) for name, tensor in saved.items())
    own = wide.state_dict()["conv_in.weight"]
    assert torch.equal(saved["conv_in.weight"][:, 4:], own[:, 4:])
    assert not torch.equal(saved["conv_in.weight"][:, :4], own[:, :4])


def test_files_of_different_families_are_told_in_one_sentence(tmp_path):
    shapes = {"sd1": 768, "sd2": 1024}
    for name, width in shapes.items():
        place = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
        tensors(
            tmp_path / f"{name}.safetensors",
            {
                "model.diffusion_model.input_blocks.0.0.weight": np.ones((4, 4, 3, 3), np.float32),
                place: np.ones((4, width), np.float32),
            },
        )
    found = preflight([tmp_path / f"{name}.safetensors" for name in shapes])
    (problem,) = found.problems
    assert "a file of SD 1" in str(problem)
    assert "one of SD 2" in str(problem)


def test_two_refiners_are_no_remark(home, tmp_path):
    folders = []
    for name in "ab":
        folder = shutil.copytree(home / name, tmp_path / name)
        path = folder / "model_index.json"
        index = json.loads(path.read_text())
        path.write_text(json.dumps({**index, "requires_aesthetics_score": True}))
        folders.append(folder)
    found = preflight(folders, components=["unet"])
    assert not any("is a refiner" in note for note in found.notes)


def test_vocabularies_of_pipelines_are_compared_by_their_tokenizers(home, tmp_path):
    other = shutil.copytree(home / "b", tmp_path / "other")
    path = other / "text_encoder/model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "token_embedding" in name)
    weights[name] = weights[name][:30]
    tensors(path, weights, {"format": "pt"})
    (problem,) = preflight([home / "a", other], components=["text_encoder"]).problems
    assert "--vocab common" in str(problem)  # the tokenizers agree
    words = other / "tokenizer/tokenizer.json"
    changed_words = json.loads(words.read_text())
    vocabulary = changed_words["model"]["vocab"]
    vocabulary["a</w>"], vocabulary["b</w>"] = vocabulary["b</w>"], vocabulary["a</w>"]
    words.write_text(json.dumps(changed_words))
    (problem,) = preflight([home / "a", other], components=["text_encoder"]).problems
    assert "token 2 is 'a</w>' in one and 'b</w>' in the other" in str(problem)
    assert "--vocab" not in problem.fix


def test_a_search_prints_the_notes(home, tmp_path, monkeypatch, capsys):
    other = changed(
        home, tmp_path, "scheduler/scheduler_config.json", prediction_type="v_prediction"
    )
    file = tmp_path / "prompts.txt"
    file.write_text("a\nb\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [
        *("m2n2lab", "evolve", "--task", "text2image", "--seeds", str(home / "a"), str(other)),
        *("--components", "unet", "--data", str(file), "--steps", "0", "--json", "--size", "16"),
        *("--steps-per-picture", "1", "--guidance", "1", "--negative", "dark", "--batch", "1"),
        *("--scorer", str(clip(tmp_path / "clip")), "--threads", "1"),
    ])  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    assert "Note: The scheduler of" in captured.err
    assert "prediction_type v_prediction" in captured.err
