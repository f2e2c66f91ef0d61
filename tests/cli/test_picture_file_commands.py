"""Commands for picture models: whose parts, which form, three models, one file and back."""

import sys

import numpy as np
import pytest
from helpers.single_files import PREFIX, a1111, read, single
from safetensors import safe_open

import m2n2lab
from m2n2lab.cli import main

VAE = "first_stage_model.decoder.conv_out.weight"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line; return its exit status and what it says."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["m2n2lab", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code, " ".join((captured.out + captured.err).split())

    return command


@pytest.fixture
def files(tmp_path):
    b = a1111(1) | {VAE: np.full((3, 3), 9.0, np.float16)}
    return [single(tmp_path, 0), single(tmp_path, 1, b)]


@pytest.mark.parametrize("letter", ["B", "b", "1"])
def test_parts_are_taken_from_the_seed_that_is_named(run, files, tmp_path, letter):
    out = tmp_path / "merged.safetensors"
    options = ["--component", "unet", "--vae-from", letter, "--text-encoder-from", "1"]
    code, text = run("merge", *files, *options, "-o", out)
    assert code == 0, text
    made, b = read(out)[0], read(files[1])[0]
    assert f"The result has VAE (1 tensor) of {files[1]}" in text
    for name in b:
        same = np.array_equal(made[name], b[name])
        assert same == (not name.startswith(PREFIX)), name
    code, text = run("merge", *files, "--vae-from", "C", "-o", tmp_path / "c.safetensors")
    assert code == 2
    assert "'C'" in text


def test_a_part_is_left_out(run, files, tmp_path):
    out = tmp_path / "merged.safetensors"
    code, text = run("merge", *files, "--vae-from", "none", "-o", out)
    assert code == 0, text
    assert VAE not in read(out)[0]
    assert "leaves out VAE (1 tensor)" in text


def test_8_bits_are_written_and_a_folder_is_named_as_itself(run, files, tmp_path):
    code, text = run("merge", *files, "--dtype", "fp8", "--as", "folder", "-o", tmp_path / "out")
    assert code == 0, text
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["README.md", "out.safetensors", "recipe.json"]
    with safe_open(tmp_path / "out" / "out.safetensors", "pt") as file:
        assert str(file.get_tensor(f"{PREFIX}out.2.weight").dtype) == "torch.float8_e4m3fn"


@pytest.mark.parametrize(
    ("form", "name", "words"),
    [
        ("file", "out", "expected the name of a file in .safetensors"),
        ("folder", "out.safetensors", "expected that of a folder"),
        ("diffusers", "out", "needs the configs and tokenizers of a pipeline"),
        ("zip", "out", "'zip'"),
    ],
)
def test_forms_that_cannot_be_are_refused(run, files, tmp_path, form, name, words, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, text = run("merge", *files, "--as", form, "-o", tmp_path / name)
    assert code == 2
    assert words in text
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("crossover", ["add-difference:base=2", "sum-of-three:base=2,share=0.25"])
def test_three_models_are_merged(run, files, tmp_path, crossover):
    third = single(tmp_path, 1, a1111(2), "C.safetensors")
    out = tmp_path / "merged.safetensors"
    code, text = run("merge", *files, third, "--crossover", crossover, "--mix", "0.4", "-o", out)
    assert code == 0, text
    made, a, b, c = (read(path)[0] for path in (out, *files, third))
    name = f"{PREFIX}out.2.weight"
    a, b, c = (each[name].astype(float) for each in (a, b, c))
    wanted = a + 0.4 * (b - c) if "diff" in crossover else 0.75 * (0.6 * a + 0.4 * b) + 0.25 * c
    np.testing.assert_array_equal(made[name], wanted.astype(np.float16))
    m2n2lab.rebuild(tmp_path / "merged.recipe.json", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
    code, text = run("merge", *files, third, "-o", tmp_path / "no.safetensors")
    assert code == 2
    assert "sum-of-three:base=2" in text


def test_a_pipeline_becomes_a_file_and_a_file_a_pipeline(run, tmp_path):
    from helpers.single_files import pipeline
    from safetensors.torch import load_file

    folder = pipeline("flux", tmp_path / "A")
    code, text = run("convert", folder, "-o", tmp_path / "a.safetensors")
    assert code == 0, text
    code, text = run(
        "convert", tmp_path / "a.safetensors", "--config", folder, "-o", tmp_path / "back"
    )
    assert code == 0, text
    for path in folder.glob("transformer/*.safetensors"):
        made = load_file(tmp_path / "back" / path.relative_to(folder))
        assert all(bool((made[name] == value).all()) for name, value in load_file(path).items())
    code, text = run("convert", tmp_path / "a.safetensors", "-o", tmp_path / "back")
    assert code == 2
    assert "something already there" in text


def test_single_files_are_searched(run, tmp_path, monkeypatch):
    from helpers.pictures import clip
    from helpers.single_files import pipeline

    from m2n2lab.checkpoint.convert_picture import convert_picture

    folders = [pipeline("sdxl", tmp_path / name, seed) for seed, name in enumerate("AB")]
    files = [convert_picture(f, f.with_suffix(".safetensors")) for f in folders]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\nb\n")
    monkeypatch.chdir(tmp_path)
    code, text = run(
        *("evolve", "--task", "text2image", "--seeds", *files, "--config", folders[0]),
        *("--components", "unet", "--vae-from", "B", "--data", prompts, "--steps", "1"),
        *("--scorer", clip(tmp_path / "clip"), "--size", "16", "--steps-per-picture", "1"),
        *("--threads", "1", "--save", tmp_path / "best.safetensors"),
    )
    assert code == 0, text
    made, b = (read(path)[0] for path in (tmp_path / "best.safetensors", files[1]))
    assert set(made) == set(b)
    assert all(np.array_equal(made[n], b[n]) for n in b if n.startswith("first_stage_model."))
