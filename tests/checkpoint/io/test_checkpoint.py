"""Folders, files and hub ids: what is opened, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import checkpoints
from helpers.stubs import model, pipeline, refused, sharded, weights
from safetensors.torch import load_file

from m2n2lab.checkpoint import Checkpoint

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
    assert checkpoint.entry("lm_head.weight").dtype == ("F64" if name == "double" else "BF16")
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
        f"{tmp_path}: expected one model, but found several: a.safetensors, b.safetensors; give "
        f"the path of the file that is meant."
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


def test_a_config_without_weights_is_told_what_to_copy(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert refused(tmp_path).startswith(
        f"{tmp_path}: expected its weights too, but found only its config; copy its "
        f"model.safetensors or pytorch_model.bin there"
    )


def test_a_copy_from_the_hub_without_weights_is_named_by_its_id_and_says_how_to_get_them(tmp_path):
    folder = tmp_path / "hub" / "models--WizardLM--WizardMath-7B-V1.0" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert refused(folder) == (
        "WizardLM/WizardMath-7B-V1.0: expected a model in safetensors files or pickles, but found "
        "no weights in this computer's cache of the hub, only other files; run it with a network, "
        "or download them there: hf download WizardLM/WizardMath-7B-V1.0."
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
            f"or folder; check the path."
        )


def test_a_hub_id_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert refused("me/no-model-here").endswith(
        'check the path or, for hub ids, run: pip install "m2n2lab[llm]".'
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
    printed = subprocess.run(
        [sys.executable, "-c", HUB, *ids],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    *found, no_revision, no_model = map(json.loads, printed.splitlines())
    assert found == [
        [id, "transformers", str(cache / "snapshots" / place), names, "mit"]
        for id, place, names in zip(ids, (commit, old, old), (["a"], ["b"], ["b"]), strict=False)
    ]
    for id, message in (("me/tiny@v2", no_revision), ("me/other", no_model)):
        assert message.startswith(
            f"{id}: expected a folder, a .safetensors file or a hub id, but found no such file or "
            f"folder, and the hub says: "
        )
        assert "HF_HUB_OFFLINE" in message
        assert message.endswith(
            "; check the name and the connection, or give the path of a local copy."
        )
