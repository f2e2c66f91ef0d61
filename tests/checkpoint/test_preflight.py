import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.checkpoints import change, llama, tokenizer, unet
from helpers.merges import copy, refused, says
from safetensors.torch import load_file

from m2n2lab import CheckpointSpace, InputError, preflight
from m2n2lab.checkpoint import Problems
from m2n2lab.checkpoint.io.parallel import THREADS
from m2n2lab.checkpoint.io.tensor_file import TensorFile


@pytest.fixture
def here(models, here):
    """A folder to work in, with a checkpoint ``a``."""
    shutil.copytree(models / "a", "a")
    return here


# -- models that do not fit together -----------------------------------------------------------


def test_two_that_fit_have_no_problems_and_no_weight_is_read(here, models, monkeypatch):
    monkeypatch.setattr(TensorFile, "array", None)
    monkeypatch.setattr(TensorFile, "raw", None)
    found = preflight(["a", models / "sharded"], out="out")
    assert found.problems == ()
    assert found.plan.layout.size == 19_616
    assert found.written == 2 * 19_616
    assert found.read > 4 * 19_616
    assert 0 < found.seconds < 1
    assert found.memory == 300_000_000 + THREADS * 8 * 524_288  # so many doubles a thread
    assert not Path("out").exists()


def test_without_a_plan_nothing_is_estimated(here):
    found = preflight(["a", "nowhere"])
    assert found.plan is None
    assert (found.read, found.written, found.seconds) == (0, 0, 0)


def test_other_architectures_are_one_problem_and_no_flood_of_tensors(here):
    unet("b")
    error = refused("a", "b")
    says(error, "b/config.json: expected the architecture LlamaForCausalLM, as in a")
    says(error, "found UNet2DConditionModel", "merge models of one architecture")
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "many", "words"),
    [
        # Nine tensors in each of two layers, and three outside, of which three are named.
        ({"hidden_size": 64}, 18, ["width (hidden_size) 32, as in a, but found 64", "(64, 32)"]),
        ({"intermediate_size": 40}, 3, ["feed-forward layers (intermediate_size) 48", "found 40"]),
        ({"num_hidden_layers": 3}, 6, ["depth (num_hidden_layers) 2", "found 3", "layers.2."]),
        ({"num_key_value_heads": 4}, 1, ["key-value heads", "found 4", "k_proj.weight"]),
    ],
    ids=["width", "feed-forward", "depth", "heads"],
)
def test_other_sizes_are_named_from_config_and_tensors(config, many, words, here):
    llama("b", 1, **config)
    error = refused("a", "b")
    says(error, "b/config.json: expected ", "b/model.safetensors, tensor model.layers", *words)
    says(error, f"({many} more likewise); merge models of one architecture")
    assert len(error.strip().splitlines()) <= 5  # a few tensors by name, then how many more


def test_vocabularies_of_other_size_are_refused_with_advice(here):
    llama("b", 1, vocab_size=72)
    error = refused("a", "b")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        says(
            error,
            f"b/model.safetensors, tensor {name}: expected a vocabulary of 64 rows, as in a",
        )
    says(error, "but found 72 rows; keep the 64 common rows with vocab='common' (--vocab common)")


@pytest.mark.parametrize("sizes", [(64, 72), (72, 64)])
def test_common_rows_are_kept_on_demand_and_the_result_loads(sizes, here):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for k, (name, size) in enumerate(zip("xy", sizes, strict=True)):
        llama(name, k, vocab_size=size)
        tokenizer(name, [f"t{i}" for i in range(size)])
    found = preflight(["x", "y"], vocab="common")
    assert found.problems == ()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        says(
            " ".join(found.notes),
            f"{name} has {sizes[0]} rows in x and {sizes[1]} in y: the 64 common rows are merged, "
            "the others left out.",
        )
    space = CheckpointSpace("x", "y", vocab="common", tokenizer=sizes.index(64))
    space.save(space.merge(*space.seeds, space.size, 0.25), "out")
    model = AutoModelForCausalLM.from_pretrained("out")
    assert model.config.vocab_size == 64
    assert model.get_input_embeddings().weight.shape == (64, 32)
    assert len(AutoTokenizer.from_pretrained("out")) == 64
    table = load_file("x/model.safetensors")["model.embed_tokens.weight"][:64]
    space.save(space.seeds[0], "first")
    assert torch.equal(load_file("first/model.safetensors")["model.embed_tokens.weight"], table)


@pytest.mark.parametrize("options", [[], ["--vocab", "common"]])
def test_tokenizers_that_disagree_on_common_ids_are_refused(options, here):
    llama("b", 1, vocab_size=72)
    tokenizer("a", [f"t{i}" for i in range(64)])
    tokenizer("b", [f"t{i}" if i != 5 else "other" for i in range(72)])
    error = refused("a", "b", *options)
    says(error, "found 72 rows, and token 5 is 't5' in one and 'other' in the other")
    says(error, "use models with one tokenizer")
    assert "--vocab" not in error  # --vocab would not help


def test_tokenizers_that_differ_beyond_the_common_ids_are_none_of_our_business(here):
    llama("b", 1, vocab_size=72)
    tokenizer("a", [f"t{i}" for i in range(64)])
    tokenizer("b", [f"t{i}" if i < 64 else f"new{i}" for i in range(72)])
    assert preflight(["a", "b"], vocab="common").problems == ()


def test_tokenizers_that_differ_at_equal_size_are_noted(here, models):
    copy(models, "b", "b")
    tokenizer("a", [f"t{i}" for i in range(64)])
    tokenizer("b", [f"t{i}" if i != 9 else "<im>" for i in range(64)])
    found = preflight(["a", "b"])
    assert found.problems == ()
    says(" ".join(found.notes), "tokenizers of a and b differ: token 9 is 't9' in one and '<im>'")


@pytest.mark.parametrize("text", ["", "[]", '{"model": 1}', '{"model": {"vocab": [1, ["t"], []]}}'])
@pytest.mark.parametrize("added", ["1", "[1]", '[{"id": "x"}]'])
def test_a_tokenizer_that_makes_no_sense_is_none(text, added, here, models):
    copy(models, "b", "b")
    tokenizer("a", [f"t{i}" for i in range(64)])
    Path("b/tokenizer.json").write_text(text.removesuffix("}") + f', "added_tokens": {added}}}')
    assert preflight(["a", "b"]).problems == ()


def test_unigram_tokens_and_added_ones_are_compared(here, models):
    copy(models, "b", "b")
    tokenizer("a", ["t0", "t1", "t2"])
    other = {
        "model": {"vocab": [["t0", 0.0], ["x", -1.0]]},
        "added_tokens": [{"id": 1, "content": "t1"}, {"id": 2, "content": "y"}],
    }
    Path("b/tokenizer.json").write_text(json.dumps(other))
    assert "token 2 is 't2' in one and 'y' in the other" in " ".join(preflight(["a", "b"]).notes)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_tied_and_an_untied_head_are_refused_and_the_fix_works(order, here):
    from transformers import AutoModelForCausalLM

    llama("b", 1, tied=True)
    error = refused(*order)
    says(error, "a/model.safetensors, tensor lm_head.weight: expected a head tied to the embedding")
    says(error, "as in b, but found a head of its own; untie b first", "tie_word_embeddings=False")
    assert len(error.strip().splitlines()) == 1
    model = AutoModelForCausalLM.from_pretrained("b", tie_word_embeddings=False)
    model.lm_head.weight.data = model.get_input_embeddings().weight.data.clone()
    model.save_pretrained("untied")
    assert preflight(["a", "untied"]).problems == ()


def test_a_head_that_is_lost_is_not_taken_for_a_tied_one(here, models):
    change(copy(models, "b", "b") / "model.safetensors", {"lm_head.weight": None})
    says(refused("a", "b"), "b, tensor lm_head.weight: expected this tensor, as in a, but found no")


def test_missing_and_extra_tensors_are_named(here, models):
    change(
        copy(models, "b", "b") / "model.safetensors",
        {"model.norm.weight": None, "model.layers.0.gate": torch.ones(3)},
    )
    error = refused("a", "b")
    says(error, "b, tensor model.norm.weight: expected this tensor, as in a, but found none")
    says(error, "b/model.safetensors, tensor model.layers.0.gate: expected only tensors that a has")
    says(error, "found one that it does not have", "merge models of one architecture")


def test_another_shape_is_named(here, models):
    norm = {"model.norm.weight": torch.ones(31)}
    change(copy(models, "b", "b") / "model.safetensors", norm)
    says(refused("a", "b"), "tensor model.norm.weight: expected shape (32,), as in a", "(31,)")


def test_mixed_dtypes_are_noted_with_that_of_the_result(here):
    llama("b", 1, torch.float32)
    (note,) = (n for n in preflight(["a", "b"]).notes if "seeds hold" in n)
    says(note, "BF16 (a), F32 (b)", "the result will be BF16, as in the first seed", "--dtype")
    (note,) = (n for n in preflight(["a", "b"], dtype="fp32").notes if "seeds hold" in n)
    says(note, "BF16 (a), F32 (b); the result will be F32.")
    assert not any("seeds hold" in note for note in preflight(["a", "a"]).notes)


def test_a_config_that_changes_what_weights_do_is_noted(here):
    llama("b", 1, rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    error = " ".join(preflight(["a", "b"]).notes)
    says(error, "b/config.json has rope_parameters", "500000.0", "the result keeps the latter")


@pytest.mark.parametrize(
    ("mine", "its", "words"),
    [
        ({"rope_theta": 1e4}, {"rope_theta": 1e6}, "rope_theta 1000000.0 where a has 10000.0"),
        ({}, {"rope_theta": 1e6}, "rope_theta 1000000.0 where a has 10000.0"),
        (
            {"rope_theta": 1e4},
            {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}},
            "rope_theta 1000000.0 where a has 10000.0",
        ),
        (
            {"rope_scaling": None},
            {"rope_scaling": {"type": "linear", "factor": 4.0}},
            "rope_type linear where a has default",
        ),
        ({"rms_norm_eps": 1e-6}, {"rms_norm_eps": 1e-5}, "rms_norm_eps 1e-05 where a has 1e-06"),
        ({"hidden_act": "silu"}, {"hidden_act": "gelu"}, "hidden_act gelu where a has silu"),
        ({}, {"max_position_embeddings": 99}, "max_position_embeddings 99 where a has 2048"),
        (
            {"model_type": "mistral", "sliding_window": 4096},
            {"model_type": "mistral", "sliding_window": None},
            "sliding_window None where a has 4096",
        ),
        (
            {"model_type": "mixtral", "num_experts_per_tok": 2},
            {"model_type": "mixtral", "num_experts_per_tok": 1},
            "num_experts_per_tok 1 where a has 2",
        ),
        (
            {"model_type": "gemma2"},
            {"model_type": "gemma2", "final_logit_softcapping": 10.0},
            "final_logit_softcapping 10.0 where a has 30.0",
        ),
        (
            {"model_type": "unknown", "text_config": {"rope_theta": 1e4}},
            {"model_type": "unknown", "text_config": {"rope_theta": 1e6}},
            "text_config.rope_theta 1000000.0 where a has 10000.0",
        ),
        (
            {"id2label": {"0": "no", "1": "yes"}},
            {"id2label": {"0": "yes", "1": "no"}},
            "id2label.0 yes where a has no",
        ),
    ],
)
def test_entries_of_configs_are_compared_with_their_defaults(mine, its, words, here, models):
    copy(models, "b", "b")
    for name, entries in (("a", mine), ("b", its)):
        path = Path(name, "config.json")
        config = json.loads(path.read_text())
        for key in ("rope_parameters", "rope_theta", "rope_scaling"):
            config.pop(key, None)
        path.write_text(json.dumps({**config, **entries}))
    notes = [note for note in preflight(["a", "b"]).notes if "b/config.json" in note]
    says(" ".join(notes), words)


@pytest.mark.parametrize(
    "entries",
    [
        {"rope_theta": 10000.0},
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
        {"torch_dtype": "float16", "use_cache": False, "transformers_version": "4.31.0"},
        {"attention_dropout": 0.5, "_name_or_path": "somewhere"},
        {"hidden_act": "silu", "mlp_bias": False},
    ],
)
def test_entries_that_say_the_same_or_do_nothing_are_not_told(entries, here, models):
    path = copy(models, "b", "b") / "config.json"
    config = json.loads(path.read_text())
    for key in ("rope_parameters", "hidden_act", "mlp_bias"):
        config.pop(key, None)
    path.write_text(json.dumps({**config, **entries}))
    assert not [note for note in preflight(["a", "b"]).notes if "b/config.json" in note]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_config_without_a_class_is_of_its_family(order, here, models):
    path = copy(models, "b", "b") / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "architectures": None}))
    assert preflight(order).problems == ()
    space = CheckpointSpace(*order)
    assert type(space.materialise(space.seeds[0])).__name__ == "LlamaForCausalLM"
    path.write_text(json.dumps({**config, "architectures": None, "model_type": "mistral"}))
    says(refused("a", "b"), "expected the architecture llama, as in a, but found mistral")


def test_licences_that_differ_are_noted(here, models):
    copy(models, "b", "b")
    Path("a/README.md").write_text("---\nlicense: mit\n---\n")
    assert "(a: mit; b: none stated)" in " ".join(preflight(["a", "b"]).notes)
    Path("b/README.md").write_text("---\nlicense: mit\n---\n")
    assert not any("licence" in note for note in preflight(["a", "b"]).notes)


# -- the place of the result -------------------------------------------------------------------


def test_a_full_disk_is_found_out_before_any_work(here, models, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12_345))
    error = refused("a", models / "b", status=3)
    config = sum(
        Path("a", name).stat().st_size for name in ("config.json", "generation_config.json")
    )
    says(error, f"out: expected {2 * 19_616 + config:,} bytes of space for the result")
    says(error, "but found 12,345 bytes free; free some space or choose another disk.")


def test_a_name_that_is_taken_is_refused(here, models):
    says(refused("a", models / "b", out="a"), "a: expected a new or empty folder for the result")
    Path("file").touch()
    error = refused("a", models / "b", out="file")
    says(error, "file: expected a new or empty folder", "something already there", "another name")


def test_a_link_cannot_become_the_result_and_that_is_found_out_first(here, models):
    Path("elsewhere").mkdir()
    Path("out").symlink_to("elsewhere")
    error = refused("a", models / "b")
    says(error, "found a symbolic link; choose a new folder inside it, such as out/merged.")


def test_a_mounted_disk_cannot_be_replaced_and_that_is_found_out_first(here, models, monkeypatch):
    Path("out").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "out")
    error = refused("a", models / "b")
    says(error, "found a mounted disk; choose a new folder inside it, such as out/merged.")


@pytest.mark.parametrize("out", ["/proc/m2n2lab/out", "file/out"])
def test_a_place_that_cannot_be_written_is_named(out, here, models):
    Path("file").touch()
    error = refused("a", models / "b", out=out)
    says(error, f"{Path(out).absolute().parent}".removesuffix("/m2n2lab"))
    says(error, "expected a folder that can be written to, but found one that cannot (", "another")


# -- all at once -------------------------------------------------------------------------------


def test_all_problems_are_collected_at_once(here, models):
    (copy(models, "sharded", "lost") / "model-00001-of-00002.safetensors").unlink()
    file = copy(models, "b", "cut") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    llama("wide", 1, hidden_size=64)
    llama("words", 1, vocab_size=72)
    Path("pickle").mkdir()
    Path("pickle/model.bin").write_bytes(b"")
    found = preflight(["a", "lost", "cut", "wide", "words", "pickle", "nowhere"], out="a")
    assert found.plan is None
    problems = [str(problem) for problem in found.problems]
    for words in (
        "lost/model-00001-of-00002.safetensors: expected a shard",
        "cut/model.safetensors: expected 41,344 bytes",
        "wide/config.json: expected width",
        "words/model.safetensors, tensor lm_head.weight: expected a vocabulary",
        "pickle/model.bin: expected a file that torch.save wrote",
        "nowhere: expected a folder",
        "a: expected a new or empty folder",
    ):
        assert sum(problem.startswith(words) for problem in problems) == 1, words
    for problem in found.problems:
        assert problem.file
        assert problem.expected
        assert problem.found
        assert problem.fix
    with pytest.raises(Problems, match="problems were found:\n- ") as caught:
        CheckpointSpace("a", "lost", "cut", "words")
    assert len(caught.value.problems) == 4
    lines = refused("lost", "cut", out="a").splitlines()
    assert lines[0] == "3 problems were found:"
    assert [line[:2] for line in lines[1:]] == ["- "] * 3


def test_a_broken_config_does_not_hide_what_else_is_wrong(here, models):
    Path(copy(models, "b", "b"), "config.json").write_text("{")
    (Path("b") / "model.safetensors").write_bytes(b"")
    error = refused("a", "b")
    says(error, "b/config.json: expected a JSON object", "b/model.safetensors: expected a safeten")


@pytest.mark.parametrize(
    ("sources", "options", "sentence"),
    [
        (["a"], {}, "at least two checkpoints, got one; add another"),
        ("a", {}, "at least two checkpoints, got one"),
        ([], {}, "at least two checkpoints, got none"),
        (["a", "a"], {"dtype": "int8"}, "no dtype for weights named 'int8'; choose one of: bf"),
        (["a", "a"], {"vocab": "all"}, "no way to treat vocabularies named 'all'; choose one of"),
    ],
)
def test_options_that_do_not_exist_are_one_sentence(sources, options, sentence, here):
    with pytest.raises(InputError, match=sentence):
        preflight(sources, **options)
