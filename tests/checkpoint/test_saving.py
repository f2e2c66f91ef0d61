import errno
import filecmp
import hashlib
import json
import logging
import warnings
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from helpers.checkpoints import change, llama, pipeline, tensors, unet
from helpers.merges import equal, files, merged, run, sha256, weights
from safetensors import safe_open
from safetensors.torch import load_file

from m2n2lab import Checkpoint, CheckpointSpace, InputError
from m2n2lab.core.spaces.slerp import angle, split_point

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@contextmanager
def silence():
    """See that nothing inside warns, in either way that libraries have."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for logger in loggers:
            logger.addHandler(handler)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
    assert said == []


def loaded(folder, dtype="auto"):
    """Load a causal language model, which must find just what it looks for, without a warning."""
    from transformers import AutoModelForCausalLM

    with silence():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, output_loading_info=True
        )
    assert not any(info.values()), info
    return model


def once(exact, dtype):
    """Round doubles once: PyTorch rounds them to float32 before it rounds them to 16 bits."""
    if dtype == torch.float16:
        return torch.from_numpy(exact.numpy().astype("float16"))
    if dtype == torch.bfloat16:
        bits = exact.view(torch.int64)
        exact = ((bits + (1 << 44) - 1 + ((bits >> 45) & 1)) >> 45 << 45).view(torch.float64)
    return exact.to(dtype)


def wanted(a, b, split, mix, dtype):
    """Return what a merge shall give, from the formula in float64 and rounded once."""
    order = Checkpoint.open(a).layout.shapes
    a, b = weights(a), weights(b)
    x, y = (torch.cat([seed[name].double().flatten() for name in order]) for seed in (a, b))
    before = split_point(angle(float(x @ x), float(y @ y), float(x @ y)), mix)
    factors = torch.tensor(before, dtype=torch.float64).reshape(2, 2)
    cut = round(split * len(x))
    vector = torch.cat(
        [
            f * x[s] + g * y[s]
            for (f, g), s in zip(factors.tolist(), (slice(cut), slice(cut, None)), strict=True)
        ]
    )
    pieces = vector.split([a[name].numel() for name in order])
    return {
        name: once(piece, dtype).reshape(shape)
        for (name, shape), piece in zip(order.items(), pieces, strict=True)
    }


# -- the result loads --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "tied", "dtype"), [*product((None, "20KB"), (False, True), DTYPES)]
)
def test_a_merge_loads_without_a_warning_and_is_rounded_once(shards, tied, dtype, here):
    for k, name in enumerate("ab"):
        llama(name, k, DTYPES[dtype], tied, shards)
    status, _, stderr = run("merge", "a", "b", "--split", 0.4, "--mix", 0.3, "-o", "out")
    assert status == 0, stderr
    expected = wanted("a", "b", 0.4, 0.3, DTYPES[dtype])
    assert equal(weights("out"), expected)
    assert ("lm_head.weight" in expected) != tied
    model = loaded("out")
    assert model.dtype == DTYPES[dtype]
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"]) == tied
    # The same shards, and beside them what the first seed has and what tells of the merge.
    assert {*files("out")} == {*files("a"), Path("README.md"), Path("recipe.json")}
    assert (len(list(Path("out").glob("*.safetensors"))) > 1) == (shards is not None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_dtype_is_rounded_to_and_the_config_says_so(dtype, here):
    llama("a", 0, torch.float32)
    llama("b", 1, torch.float16)
    status, _, stderr = run("merge", "a", "b", "--dtype", dtype, "-o", "out")
    assert status == 0, stderr
    assert f"the result will be {dtype.upper().replace('FP', 'F')}" in stderr
    assert equal(weights("out"), wanted("a", "b", 1, 0.5, DTYPES[dtype]))
    config = json.loads(Path("out/config.json").read_text())
    assert config["dtype"] == str(DTYPES[dtype]).removeprefix("torch.")
    assert loaded("out").dtype == DTYPES[dtype]


def test_sharded_and_single_merge_into_the_form_of_the_first(here):
    llama("a", 0, shards="20KB")
    llama("b", 1)
    merged()
    merged("b", "a", "other")
    assert len(list(Path("out").glob("*.safetensors"))) == 2
    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    assert (
        index["weight_map"]
        == json.loads(Path("a/model.safetensors.index.json").read_text())["weight_map"]
    )
    assert index["metadata"]["total_size"] == 39_232
    assert [path.name for path in Path("other").glob("*.safetensors")] == ["model.safetensors"]
    loaded("out")
    loaded("other")


def test_one_shard_with_an_index_keeps_it(here):
    for k, name in enumerate("ab"):
        llama(name, k)
        Path(name, "model.safetensors").rename(Path(name, "only.safetensors"))
        places = dict.fromkeys(load_file(Path(name, "only.safetensors")), "only.safetensors")
        index = {"metadata": {}, "weight_map": places}
        Path(name, "model.safetensors.index.json").write_text(json.dumps(index))
    out = merged()
    assert [path.name for path in out.glob("*.safetensors")] == ["only.safetensors"]
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index == {"metadata": {"total_size": 39_232}, "weight_map": dict(sorted(places.items()))}
    loaded(out)


def test_tensors_are_written_whole_however_small_the_pieces(here, monkeypatch):
    llama("a", 0)
    llama("b", 1, torch.float32)
    carried = {"steps": torch.arange(1000), "mask": torch.arange(999) % 3 == 0}
    for name in "ab":
        change(Path(name, "model.safetensors"), carried)
    monkeypatch.setattr("m2n2lab.checkpoint.save.PIECE_ELEMENTS", 100)
    out = merged()
    expected = wanted("a", "b", (19_616 // 3) / 19_616, 0.3, torch.bfloat16)
    assert equal(weights(out), {**expected, **carried})


def test_progress_counts_every_byte_that_is_read_and_written(here):
    for k, name in enumerate("ab"):
        llama(name, k)
        change(Path(name, "model.safetensors"), {"steps": torch.arange(1000)})
    space, done = CheckpointSpace("a", "b"), []
    space.save(space.seeds[0], "out", progress=done.append)
    # Two bytes of each seed and of the result a weight; what is carried is read once.
    assert sum(done) == 19_616 * 2 * 3 + 1000 * 8 * 2


def test_configs_are_written_as_transformers_writes_them(here):
    for k, name in enumerate("ab"):
        llama(name, k)
    out = merged(dtype="fp32")
    text = (out / "config.json").read_text()
    config = json.loads(Path("a/config.json").read_text())
    assert text == json.dumps({**config, "dtype": "float32"}, indent=2) + "\n"


def test_an_index_beside_a_single_file_is_not_kept(here):
    for k, name in enumerate("ab"):
        llama(name, k)
        Path(name, "model.safetensors.index.json").write_text('{"weight_map": {"w": "lost"}}')
    out = merged()
    assert not (out / "model.safetensors.index.json").exists()
    loaded(out)


def test_configs_inside_configs_are_changed_as_well(here):
    for name, rows in (("a", 9), ("b", 7)):
        table = {"language_model.embed_tokens.weight": torch.ones(rows, 2)}
        tensors(Path(name, "model.safetensors"), table)
        text = {"vocab_size": rows, "torch_dtype": "float32", "layers": [rows]}
        config = {"text_config": text, "audio_config": {"vocab_size": 5}, "dtype": "float32"}
        Path(name, "config.json").write_text(json.dumps(config))
    config = json.loads((merged(vocab="common", dtype="bf16") / "config.json").read_text())
    assert config == {
        "text_config": {"vocab_size": 7, "torch_dtype": "bfloat16", "layers": [9]},
        "audio_config": {"vocab_size": 5},
        "dtype": "bfloat16",
    }


def test_a_head_in_the_file_of_a_tied_model_is_dropped(here):
    for k, name in enumerate("ab"):
        llama(name, k, tied=True)
        table = load_file(Path(name, "model.safetensors"))["model.embed_tokens.weight"]
        change(Path(name, "model.safetensors"), {"lm_head.weight": table.clone()})
    llama("plain", 1, tied=True)
    for other in ("b", "plain"):  # with such a one, and with one that has no head in its file
        out = merged("a", other, f"with {other}")
        assert "lm_head.weight" not in weights(out)
        model = loaded(out)
        assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


def test_a_unet_loads_without_a_warning(here):
    from diffusers import UNet2DConditionModel

    for k, name in enumerate("ab"):
        unet(name, k)
    status, _, stderr = run("merge", "a", "b", "--split", 0.4, "--mix", 0.3, "-o", "out")
    assert status == 0, stderr
    with silence():
        model, info = UNet2DConditionModel.from_pretrained(
            "out", low_cpu_mem_usage=False, output_loading_info=True
        )
    assert not any(info.values()), info
    assert equal(model.state_dict(), wanted("a", "b", 0.4, 0.3, torch.float32))


def test_a_pipeline_loads_and_what_is_not_merged_is_the_first_seeds(here):
    from diffusers import StableDiffusionPipeline

    for k, name in enumerate("ab"):
        pipeline(name, k)
    status, _, stderr = run("merge", "a", "b", "-o", "out")
    assert status == 0, stderr
    with silence():
        pipe = StableDiffusionPipeline.from_pretrained("out", low_cpu_mem_usage=False)
    assert pipe.text_encoder is not None
    assert {*files("out")} == {*files("a"), Path("README.md"), Path("recipe.json")}
    for name in files("a"):
        expected = name.parts[0] in ("unet", "text_encoder") and name.suffix == ".safetensors"
        assert filecmp.cmp(Path("a", name), Path("out", name), shallow=False) != expected, name
    x, y, z = (
        load_file(f"{s}/unet/diffusion_pytorch_model.safetensors") for s in ("a", "b", "out")
    )
    for name in ("conv_in.weight", "conv_out.bias"):
        low, high = torch.minimum(x[name], y[name]), torch.maximum(x[name], y[name])
        assert not torch.equal(z[name], x[name])
        assert (z[name] > 0.99 * low - 0.1).all()
        assert (z[name] < 1.01 * high + 0.1).all()


def test_chosen_components_alone_are_merged(here):
    for k, name in enumerate("ab"):
        pipeline(name, k)
    merged(components=["unet"])
    changed = [
        name
        for name in files("a")
        if not filecmp.cmp(Path("a", name), Path("out", name), shallow=False)
    ]
    assert changed == [Path("unet/diffusion_pytorch_model.safetensors")]


def test_integers_and_buffers_are_the_first_seeds(here):
    for k, name in enumerate("ab"):
        tensors(
            f"{name}.safetensors",
            {
                "w": torch.full((2, 3), 1.0 + k),
                "embeddings.position_ids": torch.arange(4) + k,
                "rotary.inv_freq": torch.tensor([0.5, 0.25]) + k,
                "flag": torch.tensor([k == 0]),
            },
        )
    out = weights(merged("a.safetensors", "b.safetensors"))
    assert out.pop("w").min() > 1.0
    first = load_file("a.safetensors")
    del first["w"]
    assert equal(out, first)


def test_the_tokenizer_is_the_chosen_seeds(seeds):
    Path("b/chat_template.jinja").write_text("{{ messages }}")
    merged(tokenizer=1)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert filecmp.cmp(Path("b", name), Path("out", name), shallow=False)
    assert filecmp.cmp("a/config.json", "out/config.json", shallow=False)
    with pytest.raises(InputError, match="tokenizer must be the number of a seed from 0 to 1"):
        merged(tokenizer=2, out="other")
    assert not Path("other").exists()


def test_code_and_licences_beside_the_weights_come_along_and_pickles_do_not(seeds):
    for name in ("modeling_own.py", "LICENSE", "NOTICE.txt", "training_args.bin", "optimizer.pt"):
        Path("a", name).write_text(name)
    merged()
    names = {path.name for path in files("out")}
    assert {"modeling_own.py", "LICENSE", "NOTICE.txt"} <= names
    assert not {"training_args.bin", "optimizer.pt"} & names


# -- the record and the card ---------------------------------------------------------------------


def test_metadata_and_recipe_hold_recipe_ids_and_hashes(here):
    for k, name in enumerate("ab"):
        llama(name, k, shards="20KB")
    space = CheckpointSpace("a", "b")
    child = space.merge(*space.seeds, 1000, 0.3)
    space.save(child, "out", "a test")
    record = json.loads(Path("out/recipe.json").read_text())
    for path in Path("out").glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        assert metadata["format"] == "pt"
        assert json.loads(metadata["m2n2lab"]) == record
    assert record["recipe"] == child.to_json()
    assert record["made"] == "a test"
    assert [seed["id"] for seed in record["seeds"]] == ["a", "b"]
    for seed in record["seeds"]:
        assert seed["files"]
        for name, digest in seed["files"].items():
            assert digest == sha256(Path(seed["id"], name))
        names = sorted(name for name in seed["files"] if name.endswith(".safetensors"))
        assert len(names) == 2
        lines = "".join(f"{seed['files'][name]}  {name}\n" for name in names)
        assert seed["sha256"] == hashlib.sha256(lines.encode()).hexdigest()  # as sha256sum says it
    assert "config.json" in record["seeds"][0]["files"]


def test_a_seed_in_one_file_has_that_files_hash(seeds):
    merged()
    record = json.loads(Path("out/recipe.json").read_text())
    for seed in record["seeds"]:
        assert seed["sha256"] == sha256(Path(seed["id"], "model.safetensors"))


def front(folder):
    _, head, text = Path(folder, "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_card_names_seeds_licences_and_the_recipe(seeds):
    assert run("merge", "a", "b", "--split", "lm_head", "--mix", 0.3, "-o", "out")[0] == 0
    head, text = front("out")
    assert head == {
        "license": "mit",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "m2n2"],  # folders are no models of the hub
    }
    assert "19,616 parameters each" in text
    assert "mix 0.3 before parameter 17,568 (lm_head.weight row 0) and 0.7 from it on" in text
    for name in "ab":
        assert f"| {name} |" in text
        assert sha256(Path(name, "model.safetensors")) in text
    assert "mit" in text
    assert "m2n2lab rebuild recipe.json" in text


def test_licences_that_differ_are_no_licence_of_the_merge(seeds):
    Path("b/README.md").write_text("---\nlicense: apache-2.0\n---\n")
    head, text = front(merged())
    assert "license" not in head
    assert "| mit |" in text
    assert "| apache-2.0 |" in text
    assert "licences differ" in text


@pytest.mark.parametrize(
    ("split", "mix", "sentence"),
    [
        (0, 0.3, "SLERP of A and B with mix 0.7."),
        (1, 0.3, "SLERP of A and B with mix 0.3."),
        (0.5, 0.3, "SLERP of A and B with mix 0.3 before parameter 9,808 ("),
    ],
)
def test_the_card_says_how_it_was_made(split, mix, sentence, seeds):
    assert run("merge", "a", "b", "--split", split, "--mix", mix, "-o", "out")[0] == 0
    assert sentence in front("out")[1]


def test_names_cannot_break_out_of_the_cards_tables(here):
    evil = "x|<script>[y](z)`\n# t"
    for name in (evil, "b"):
        tensors(Path(name, "model.safetensors"), {f"w{evil}": torch.ones(4)})
    Path(evil, "README.md").write_text("---\nlicense: a|<b>c\n---\n")
    space = CheckpointSpace(evil, "b")
    space.save(space.seeds[0], "out", f"by {evil}")
    head, text = front("out")
    assert head == {"tags": ["merge", "m2n2"]}
    assert "<" not in text
    assert "](" not in text
    assert "\n# t" not in text
    rows = [line for line in text.splitlines() if line.startswith("| A |")]
    assert [row.count("|") for row in rows] == [6]


@pytest.mark.parametrize("out", ["out", "out.safetensors"])
def test_a_merge_whose_last_flush_fails_leaves_nothing_as_it_says(out, seeds, monkeypatch):
    def flush(_):
        raise OSError(errno.EIO, "Input/output error")

    space = CheckpointSpace("a/model.safetensors", "b/model.safetensors")
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr("m2n2lab.checkpoint.save.flush", flush)
    with pytest.raises(InputError, match=r"Input/output error.*Nothing was left behind"):
        space.save(space.seeds[0], out)
    assert sorted(Path().rglob("*")) == before
