"""A language model merged with the language part of a model that sees, in either order."""

import json
from pathlib import Path

import pytest
import torch
import transformers as T  # noqa: N812
from helpers.checkpoints import chatter, reader
from helpers.merges import refused, run, says, weights
from safetensors.torch import load_file, save_file
from test_families import GROUPED, HEADED, VISION, gemma3, llava, mistral3, qwen2_vl

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.checkpoint import preflight, rebuild

ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}}


def paligemma():
    text = {**HEADED, "model_type": "gemma"}
    vision = {**VISION, "model_type": "siglip_vision_model"}
    return T.PaliGemmaConfig(text_config=text, vision_config=vision, projection_dim=32)


def idefics3():
    text = {**GROUPED, "model_type": "llama"}
    return T.Idefics3Config(text_config=text, vision_config=VISION, scale_factor=2)


def qwen25_vl():
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4}
    vision["out_hidden_size"] = 32
    return T.Qwen2_5_VLConfig(text_config={**GROUPED, **ROPE}, vision_config=vision)


def untied(config):
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    return config


WRAPPERS = {
    "llava": ("LlavaForConditionalGeneration", llava, "Llama", GROUPED),
    "gemma3": ("Gemma3ForConditionalGeneration", gemma3, "Gemma3", HEADED),
    "qwen2-vl": ("Qwen2VLForConditionalGeneration", qwen2_vl, "Qwen2", GROUPED),
    "qwen2.5-vl": ("Qwen2_5_VLForConditionalGeneration", qwen25_vl, "Qwen2", GROUPED),
    "mistral3": (
        "Mistral3ForConditionalGeneration",
        lambda: untied(mistral3()),
        "Mistral",
        HEADED,
    ),
    "paligemma": ("PaliGemmaForConditionalGeneration", paligemma, "Gemma", HEADED),
    "idefics3": ("Idefics3ForConditionalGeneration", idefics3, "Llama", GROUPED),
}


def made(folder, name, config, seed):
    torch.manual_seed(seed)
    getattr(T, name)(config).save_pretrained(folder)
    return name


def both(family):
    """Save the model that sees as ``a`` and the language model as ``b``; return their classes."""
    seeing, config, name, sizes = WRAPPERS[family]
    suffix = "TextConfig" if name == "Gemma3" else "Config"
    text = getattr(T, name + suffix)(**sizes)
    return made("a", seeing, config(), 0), made("b", f"{name}ForCausalLM", text, 1)


def slerp(a, b, mix):
    """Return the SLERP of two lists of tensors, each as one vector in float64."""
    x, y = (torch.cat([t.double().flatten() for t in each]) for each in (a, b))
    omega = torch.acos(x @ y / (x.norm() * y.norm()))
    merged = (torch.sin((1 - mix) * omega) * x + torch.sin(mix * omega) * y) / torch.sin(omega)
    return merged.split([t.numel() for t in a])


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("family", WRAPPERS)
def test_only_the_language_part_is_merged_and_the_result_is_as_the_first(family, order, here):
    classes = dict(zip("ab", both(family), strict=True))
    space = CheckpointSpace(*order)
    child = space.merge(*space.seeds, space.size, 0.3)
    space.save(child, "out")
    first, other, found = (weights(folder) for folder in (*order, "out"))
    pairs = [pair.split("=") for pair in space.plan.map]

    def twin(name):
        for mine, its in pairs:
            if mine == name or (mine[-1] == "*" and name.startswith(mine[:-1])):
                return its if mine == name else its[:-1] + name[len(mine) - 1 :]
        return None

    language = [name for name in first if twin(name) is not None]
    assert {twin(n) if order[0] == "a" else n for n in language} == set(weights("b"))
    wanted = slerp([first[n] for n in language], [other[twin(n)] for n in language], 0.3)
    for name, value in zip(language, wanted, strict=True):
        torch.testing.assert_close(found[name].double().flatten(), value, rtol=1e-5, atol=1e-7)
    assert found.keys() == first.keys()
    rest = found.keys() - set(language)
    assert bool(rest) == (order == ("a", "b"))
    assert all(torch.equal(found[name], first[name]) for name in rest)
    model_class = getattr(T, classes[order[0]])
    again, info = model_class.from_pretrained("out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    live = space.materialise(child).state_dict()
    assert all(torch.equal(live[key], value) for key, value in again.state_dict().items())


def test_the_map_is_recorded_told_and_rebuilt(here):
    both("llava")
    status, _, error = run("merge", "a", "b", "--mix", 0.3, "--split", 0.4, "-o", "out")
    assert status == 0, error
    told = " ".join(error.split())
    says(told, "Only language_model.lm_head.weight, language_model.model.* of a is merged, with")
    record = json.loads(Path("out/recipe.json").read_text())
    assert record["map"] == [
        "language_model.lm_head.weight=lm_head.weight",
        "language_model.model.*=model.*",
    ]
    says(Path("out/README.md").read_text(), "| `language_model.model.*` | `model.*` |")
    rebuild("out/recipe.json", "again")
    assert Path("again/model.safetensors").read_bytes() == (
        Path("out/model.safetensors").read_bytes()
    )


@pytest.mark.parametrize("given", ["list", "text", "dict", "option"])
def test_a_map_of_ones_own_merges_what_it_names_alone(given, here):
    both("llava")
    pair = "language_model.model.layers.*=model.layers.*"
    if given == "option":
        assert run("merge", "a", "b", "--map", pair, "-o", "out")[0] == 0
    else:
        forms = {"list": [pair], "text": pair, "dict": dict([pair.split("=")])}
        space = CheckpointSpace("a", "b", map=forms[given])
        assert space.plan.map == (pair,)
        space.save(space.merge(*space.seeds, space.size, 0.5), "out")
    before, after = weights("a"), weights("out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {n for n in before if n.startswith("language_model.model.layers.")}


def test_three_models_are_mapped_each_by_its_own_names(here):
    both("llava")
    made("c", "LlavaForConditionalGeneration", llava(), 2)
    space = CheckpointSpace("a", "b", "c")
    assert [seed.mapped for seed in space.plan.seeds] == [False, True, False]
    assert len(space.layout.shapes) == len(weights("b"))


def test_several_language_models_in_one_are_named_and_one_is_chosen(here):
    both("llava")
    found = load_file("a/model.safetensors")
    twins = {
        name.replace("language_model.", "second."): value.clone()
        for name, value in found.items()
        if name.startswith("language_model.")
    }
    save_file({**found, **twins}, "a/model.safetensors", {"format": "pt"})
    says(
        refused("a", "b"),
        "one language model in common with a",
        "language_model.model.*=model.*, second.model.*=model.*",
        "--map 'language_model.model.*=model.*'",
    )
    assert preflight(["a", "b"], map="second.model.*=model.*").plan is not None


def test_maps_that_name_nothing_or_are_no_maps_are_one_sentence(here):
    both("llava")
    says(refused("a", "b", "--map", "x.*=y.*"), "tensors that the map names (x.*=y.*)", "none")
    for wrong in ("model", "a.*=b", "*.*=*.*", "=b", "a=b=c"):
        with pytest.raises(InputError, match="A map must be FIRST=OTHER"):
            preflight(["a", "b"], map=wrong)


def test_a_tied_head_and_one_of_its_own_are_refused_here_too(here):
    made("a", "Mistral3ForConditionalGeneration", mistral3(), 0)
    made("b", "MistralForCausalLM", T.MistralConfig(**HEADED), 1)
    says(refused("a", "b"), "lm_head.weight", "a head tied to the embedding", "untie a first")


def test_another_width_or_depth_is_refused_and_another_family_is_told(here):
    both("llava")
    made("wide", "LlamaForCausalLM", T.LlamaConfig(**{**GROUPED, "hidden_size": 48}), 1)
    says(refused("a", "wide"), "shape")
    made("deep", "LlamaForCausalLM", T.LlamaConfig(**{**GROUPED, "num_hidden_layers": 3}), 1)
    says(refused("a", "deep"), "model.layers.2.", "only tensors that a has")
    made("cousin", "MistralForCausalLM", T.MistralConfig(**GROUPED), 1)
    notes = " ".join(preflight(["a", "cousin"]).notes)
    says(notes, "The language model of a is llama, that of cousin mistral")


@pytest.fixture
def skilled(here):
    """Llava with a token for pictures, and a Llama of the same letters."""
    config = llava()
    config.text_config.vocab_size, config.image_token_index = 129, 128
    config.text_config.max_position_embeddings = 64
    made("sees", "LlavaForConditionalGeneration", config, 0)
    reader("sees", added=["<image>"])
    chatter("counts", 1, hidden_size=32, intermediate_size=48, max_position_embeddings=64)
    lines = [{"question": f"what is {k}?", "answer": f"#### {k}"} for k in range(6)]
    Path("problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return here


def test_a_search_teaches_a_model_that_sees_and_goes_on_later(skilled):
    options = ("--task", "gsm8k", "--data", "problems.jsonl", "--limit", 2, "--json")
    options += ("--max-new-tokens", 4)
    done = run(
        *("evolve", *options, "--seeds", "sees", "counts", "--steps", 2),
        *("--store", "runs.db", "--save", "out"),
    )
    assert done[0] == 0, done[2]
    status, out, error = run("resume", "runs.db", "--steps", 1, "--json")
    assert status == 0, error
    assert json.loads(out)["steps"] == 3
    table = weights("out")["language_model.model.embed_tokens.weight"]
    assert torch.equal(table[128], weights("sees")["language_model.model.embed_tokens.weight"][128])
    _, info = T.LlavaForConditionalGeneration.from_pretrained("out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
