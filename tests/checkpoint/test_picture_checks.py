"""What does not belong together in picture models is told, although their weights fit."""

import json
import shutil
import sys

import numpy as np
import pytest
from helpers.checkpoints import tensors
from helpers.pictures import clip
from helpers.sdxl import sdxl

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
    with pytest.raises(InputError, match=r"for inpainting\); merge two models for inpainting, or"):
        m2n2lab.CheckpointSpace(*files)


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
