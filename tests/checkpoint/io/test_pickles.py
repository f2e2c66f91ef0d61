"""Pickles of torch: converted once into the user's cache, tensors only, bit for bit."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import llama, pickled, tokenizer
from helpers.merges import copy, equal, merged, run, says, sha256, weights
from safetensors.torch import load_file

from m2n2lab import CheckpointSpace, InputError, preflight, rebuild
from m2n2lab.checkpoint import Checkpoint
from m2n2lab.checkpoint.io import pickles
from m2n2lab.checkpoint.io.hub import needed_files


@pytest.fixture
def here(here, monkeypatch):
    """A folder to work in, with a cache of its own."""
    monkeypatch.setenv("M2N2LAB_CACHE", str(here / "cache"))
    return here


def opened(source):
    checkpoint = Checkpoint.open(source)
    return {name: bytes(checkpoint.raw(name)) for name in checkpoint.merged}


@pytest.mark.parametrize("shards", [1, 3])
def test_a_merge_of_pickles_is_that_of_their_safetensors(shards, here, models):
    for name in "ab":
        copy(models, name, name)
        pickled(copy(models, name, f"{name}-bin"), shards)
    found = preflight(["a-bin", "b-bin"])
    assert found.problems == ()
    says(" ".join(found.notes), "a-bin holds pickles", "converted once into", "cache/converted")
    assert equal(weights(merged("a-bin", "b-bin", "out")), weights(merged("a", "b", "same")))
    assert not list(Path("out").glob("*.bin*"))
    assert not list(Path("a-bin").glob("*.safetensors"))  # a seed is never written to
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained("out").config.vocab_size == 64
    rebuild("out/recipe.json", "again")
    assert equal(weights("again"), weights("out"))


def test_a_conversion_is_done_once_and_again_when_the_file_changes(here, models, monkeypatch):
    folder = pickled(copy(models, "a", "a"))
    reported = []
    place = Checkpoint.open(folder, progress=reported.append).path
    assert sum(reported) == (place / "model.safetensors").stat().st_size
    note = json.loads(place.with_name(f"{place.name}.json").read_text())
    assert note["pickles"] == {"pytorch_model.bin": sha256("a/pytorch_model.bin")}
    assert note["safetensors"] == {"model.safetensors": sha256(place / "model.safetensors")}
    with monkeypatch.context() as patch:
        patch.setattr(pickles, "_convert", None)
        assert Checkpoint.open(folder).path == place
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    (folder / "added.txt").write_text("later")
    (folder / "generation_config.json").unlink()
    again = Checkpoint.open(folder)
    assert again.path == place
    assert again.parts[0].config["rms_norm_eps"] == 0.5  # files beside the weights are links
    assert (place / "added.txt").read_text() == "later"
    assert not (place / "generation_config.json").is_symlink()
    first = opened(folder)
    tensors = {name: tensor + 1 for name, tensor in load_file(place / "model.safetensors").items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    assert Checkpoint.open(folder).path != place
    assert opened(folder) != first


@pytest.mark.parametrize(
    "nest",
    [
        lambda t: {"state_dict": t, "epoch": 3},
        lambda t: {"model": t, "optimizer": {"lr": 0.1}},
        lambda t: {"params": t},
        lambda t: {"module": t},
        lambda t: {"model": {"state_dict": t}},
        lambda t: {f"module.{name}": tensor for name, tensor in t.items()},
        lambda t: {name: torch.nn.Parameter(tensor) for name, tensor in t.items()},
    ],
    ids=["state_dict", "model", "params", "module", "twice", "parallel", "parameters"],
)
def test_tensors_are_found_in_what_training_programs_nest_them_in(nest, here, models):
    expected = opened(models / "a")
    assert opened(pickled(copy(models, "a", "a"), nest=nest)) == expected


@pytest.mark.parametrize("name", ["model.pt", "weights.ckpt", "best.pth"])
def test_a_single_file_is_converted_too(name, here, models):
    folder = copy(models, "a", "a")
    expected = opened(folder / "model.safetensors")
    torch.save(load_file(folder / "model.safetensors"), folder / name)
    assert opened(folder / name) == expected
    (folder / "model.safetensors").unlink()
    assert opened(folder) == expected  # the only weights there


def test_the_old_form_of_torch_is_read(here, models):
    expected = opened(models / "a")
    folder = pickled(copy(models, "a", "a"), _use_new_zipfile_serialization=False)
    assert opened(folder) == expected


def test_tensors_of_every_form_keep_their_bits(here):
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "transposed": base.T,
        "stepped": base[::2, 1::2],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.empty(0, 3),
        "half": base.half(),
        "bf16": base.bfloat16(),
        "whole": torch.arange(5),
        "flags": torch.tensor([True, False]),
    }
    torch.save(tensors, "all.bin")
    found = load_file(Checkpoint.open("all.bin").path)
    assert equal(found, {name: tensor.contiguous() for name, tensor in tensors.items()})


def test_pieces_of_scattered_tensors_are_written_in_order(here, monkeypatch):
    monkeypatch.setattr(pickles, "PIECE_BYTES", 100)
    tensor = torch.arange(3000.0).reshape(50, 60).T
    torch.save({"t": tensor, "u": torch.arange(333)}, "t.bin")
    found = load_file(Checkpoint.open("t.bin").path)
    assert torch.equal(found["t"], tensor)
    assert torch.equal(found["u"], torch.arange(333))


def test_a_head_that_is_the_embedding_is_left_out_as_transformers_does(here):
    folder = llama("tied", tied=True)
    expected = opened(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert opened(folder) == expected
    own = {**tensors, "lm_head.weight": tensors["lm_head.weight"].clone()}
    (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace('embeddings": true', 'embeddings": false')
    )
    torch.save(own, folder / "pytorch_model.bin")
    assert "lm_head.weight" in opened(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"w": torch.ones(3), "args": argparse.Namespace(a=1)}, "asks for other code"),
        ({"w": torch.ones(3), "step": 3}, "found a int as 'step'"),
        ({"model": {"w": torch.ones(2)}, "state_dict": {"w": torch.ones(2)}}, "several of them"),
        ({"epoch": 3, "lr": 0.1}, "found only 'epoch', 'lr'"),
        ([torch.ones(3)], "found a list"),
        (torch.ones(3), "found a Tensor"),
        ({"w": torch.eye(3).to_sparse()}, "dense tensor of a dtype that safetensors has"),
    ],
    ids=["code", "number", "several", "no tensors", "list", "tensor", "sparse"],
)
def test_what_holds_anything_but_tensors_is_refused(content, words, here):
    torch.save(content, "x.bin")
    with pytest.raises(InputError, match=words) as caught:
        Checkpoint.open("x.bin")
    assert str(caught.value).startswith("x.bin")
    assert [path.name for path in Path("cache/converted").iterdir()] == [
        next(Path("cache/converted").glob("*.lock")).name  # no half of a conversion
    ]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "a file that torch.save wrote"),
        (lambda data: data[: len(data) // 2], "a file that torch.save wrote"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_a_damaged_pickle_is_named(damage, words, here, models):
    file = pickled(copy(models, "a", "a")) / "pytorch_model.bin"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=words) as caught:
        Checkpoint.open("a")
    says(str(caught.value), "a/pytorch_model.bin: expected")


def test_a_missing_shard_is_named(here, models):
    folder = pickled(copy(models, "a", "a"), shards=3)
    (folder / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(InputError, match=r"a/pytorch_model-00002-of-00003\.bin: expected a shard"):
        Checkpoint.open("a")


def test_several_pickles_are_not_guessed_among(here, models):
    folder = pickled(copy(models, "a", "a"))
    for name in ("one.pt", "two.pt"):
        shutil.copy(folder / "pytorch_model.bin", folder / name)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"expected one model, but found several: one\.pt, two"):
        Checkpoint.open("a")


@pytest.mark.slow
def test_two_processes_convert_once(here, models):
    pickled(copy(models, "a", "a"), shards=3)
    code = (
        "from pathlib import Path; from m2n2lab.checkpoint import Checkpoint\n"
        "from m2n2lab.checkpoint.io import pickles\n"
        "convert = pickles._convert\n"
        "def counted(*given):\n"
        "    Path('converted.txt').open('a').write('x'); return convert(*given)\n"
        "pickles._convert = counted\n"
        "print(Checkpoint.open('a').layout.size)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["19616"] * 2
    assert Path("converted.txt").read_text() == "x"


@pytest.mark.slow
def test_many_shards_need_few_open_files(here):
    torch.manual_seed(0)
    folder = Path("many")
    folder.mkdir()
    names = [f"layers.{k}.weight" for k in range(350)]
    places = {}
    for k, name in enumerate(names):
        file = f"pytorch_model-{k + 1:05d}-of-00350.bin"
        torch.save({name: torch.randn(4, 4)}, folder / file)
        places[name] = file
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
        "from m2n2lab import CheckpointSpace, rebuild\n"
        "s = CheckpointSpace('many', 'many'); s.save(s.seeds[0], 'out')\n"
        "rebuild('out/recipe.json', 'again'); print(s.size)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(350 * 16), done.stderr


def test_convert_writes_a_folder_by_hand(here, models):
    expected = opened(models / "a")
    folder = pickled(tokenizer(copy(models, "a", "a"), [f"t{i}" for i in range(64)]), shards=2)
    torch.save({"lr": 0.1}, folder / "optimizer.pt")
    (folder / "extra").mkdir()
    (folder / "extra" / "template.jinja").write_text("{{ x }}")
    status, _, error = run("convert", "a", "-o", "new")
    assert status == 0, error
    assert opened("new") == expected
    assert Checkpoint.open("new").source is None
    kept = {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    names = {path.name for path in Path("new").iterdir()}
    assert kept <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".bin.index.json"))}
    assert Path("new/extra/template.jinja").read_text() == "{{ x }}"
    assert not any(path.is_symlink() for path in Path("new").rglob("*"))
    note = json.loads(Path("new/conversion.json").read_text())
    assert set(note["pickles"]) == {f"pytorch_model-0000{k}-of-00002.bin" for k in (1, 2)}
    for name, digest in note["safetensors"].items():
        assert sha256(Path("new", name)) == digest
    status, _, error = run("convert", "a", "-o", "new")
    assert (status, "new must be a new folder" in error) == (2, True)
    status, _, error = run("convert", "new", "-o", "newer")
    assert status == 2
    says(error, "new must hold weights in .bin", "no such files")
    assert not Path("newer").exists()


def test_a_pipeline_of_pickles_is_converted_as_a_whole(here):
    from diffusers import StableDiffusionPipeline
    from helpers.checkpoints import pipeline

    for k, name in enumerate("ab"):
        pipeline(name, k)
    shutil.copytree("a", "a-bin")
    for path in Path("a-bin").rglob("*.safetensors"):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(load_file(path), path.with_name(f"{stem}.bin"))
        path.unlink()
    assert equal(weights(merged("a-bin", "b", "out") / "unet"), weights(merged(out="s") / "unet"))
    pipe = StableDiffusionPipeline.from_pretrained("out", low_cpu_mem_usage=False)
    assert pipe.vae is not None  # the part that is not merged is complete
    assert equal(weights("out/vae"), weights("a/vae"))


def test_workers_open_what_was_given(here, models):
    import pickle

    pickled(copy(models, "a", "a"))
    space = CheckpointSpace("a", models / "b")
    again = pickle.loads(pickle.dumps(space))
    assert Path(again.plan.base.id) == Path("a").absolute()
    assert again.plan.layout.shapes == space.plan.layout.shapes


def test_a_cache_that_cannot_be_written_is_named(here, models, monkeypatch):
    pickled(copy(models, "a", "a"))
    Path("file").touch()
    monkeypatch.setenv("M2N2LAB_CACHE", "file/cache")
    with pytest.raises(InputError, match="a could not be converted into file/cache"):
        Checkpoint.open("a")


LISTED = {
    "config.json": True,
    "tokenizer.model": True,
    "modeling_x.py": True,
    "qwen.tiktoken": True,
    "README.md": True,
    "LICENSE.txt": True,
    "additional_chat_templates/tool.jinja": True,
    "consolidated.safetensors": False,
    "original/consolidated.00.pth": False,
    "checkpoint-500/model.safetensors": False,
    "training_args.bin": False,
    "optimizer.pt": False,
    "rng_state_0.pth": False,
    "trainer_state.json": False,
    "runs/events.txt": False,
    "image.png": False,
}


@pytest.mark.parametrize("safe", [True, False])
def test_of_a_hub_id_only_what_is_needed_is_downloaded(safe):
    weights = {
        "pytorch_model-00001-of-00002.bin": not safe,
        "pytorch_model.bin.index.json": True,
        **({"model-00001-of-00002.safetensors": True} if safe else {}),
        "model.fp16.safetensors": not safe,
        "int8/model.safetensors": False,
        "int8/config.json": False,
        "1_Pooling/config.json": True,
        "2_Dense/pytorch_model.bin": True,
    }
    listed = {**LISTED, **weights}
    if not safe:
        del listed["model.fp16.safetensors"]
    assert needed_files(listed) == [name for name, needed in listed.items() if needed]


@pytest.mark.parametrize("variant", [None, "fp16", "bf16"])
def test_of_a_pipeline_on_the_hub_one_variant_of_each_component_is_downloaded(variant):
    listed = {
        "model_index.json": True,
        "unet/diffusion_pytorch_model.bin": False,
        "unet/diffusion_pytorch_model.safetensors": variant != "fp16",
        "unet/diffusion_pytorch_model.fp16.safetensors": variant == "fp16",
        "vae/diffusion_pytorch_model.bin": True,
        "text_encoder/model.fp16.safetensors": True,
        "scheduler/scheduler_config.json": True,
    }
    found = needed_files(listed, variant)
    assert found == [name for name, needed in listed.items() if needed]


def test_the_size_of_what_will_be_converted_is_known(here, models):
    folder = pickled(copy(models, "a", "a"), shards=2)
    expected = sum(path.stat().st_size for path in folder.glob("*.bin"))
    assert pickles.pickled_bytes(folder) == expected
    assert pickles.pickled_bytes(models / "b") == 0
    assert os.path.isdir(folder)
