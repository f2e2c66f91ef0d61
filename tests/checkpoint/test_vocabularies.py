"""Vocabularies that differ: whose rows a merge has, and that what is written loads and is whole."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import change, chatter, llama, reader, tokenizer
from helpers.merges import copy, merged, refused, run, says, weights
from safetensors.torch import load_file

from m2n2lab import CheckpointSpace, InputError, preflight, rebuild
from m2n2lab.checkpoint.io.names import TABLES
from m2n2lab.checkpoint.tokens.tokenizers import read_tokens

EMBEDDING = "model.embed_tokens.weight"


def loaded(folder):
    """Load a result as its users do, and see that all that names its tokens agrees."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    words = AutoTokenizer.from_pretrained(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    assert model.config.vocab_size == rows == model.get_output_embeddings().weight.shape[0]
    assert max(words.get_vocab().values()) < rows
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    for id in (model.config.pad_token_id, model.config.bos_token_id, *ends):
        assert id is None or 0 <= id < rows
    assert words.eos_token_id in ends
    assert model.generation_config.pad_token_id in (None, words.pad_token_id)
    model.generate(torch.tensor([[1, 5]]), max_new_tokens=2)
    return model, words


def table(folder, name=EMBEDDING):
    return load_file(Path(folder, "model.safetensors"))[name]


def live(space, recipe):
    """Return the live model's tensors, which must be those of the saved one."""
    state = space.materialise(recipe).state_dict()
    space.save(recipe, "saved")
    saved = weights("saved")
    for name, tensor in saved.items():
        assert torch.equal(state[name], tensor), name
    return saved


@pytest.mark.parametrize("order", [("wizard", "agent"), ("agent", "wizard")])
@pytest.mark.parametrize("vocab", ["common", "union", "first"])
def test_an_added_pad_token_is_kept_or_left_out_and_the_result_loads(order, vocab, here):
    chatter("wizard", 0, added=["[PAD]"], pad="[PAD]")
    chatter("agent", 1)
    a, b = order
    out = merged(a, b, vocab=vocab)
    rows = 128 if vocab == "common" or (vocab, a) == ("first", "agent") else 129
    model, words = loaded(out)
    assert model.config.vocab_size == rows
    assert words.pad_token == ("<pad>" if rows == 128 else "[PAD]")
    for name in (EMBEDDING, "lm_head.weight"):
        assert table(out, name).shape == (rows, 32)
        assert torch.equal(table(out, name)[128:], table("wizard", name)[128:rows])
    space = CheckpointSpace(a, b, vocab=vocab)
    child = space.merge(*space.seeds, space.size // 3, 0.3)
    saved = live(space, child)
    assert torch.equal(saved[EMBEDDING], table(out))
    # The rows that all have are merged as those of models that have no others.
    for name in order:
        shutil.copytree(name, f"{name}-cut")
        tensors = load_file(f"{name}/model.safetensors")
        cut = {k: v[:128].clone() for k, v in tensors.items() if TABLES.search(k)}
        change(f"{name}-cut/model.safetensors", cut)
        config = json.loads(Path(f"{name}-cut/config.json").read_text())
        Path(f"{name}-cut/config.json").write_text(json.dumps({**config, "vocab_size": 128}))
    same = merged(f"{a}-cut", f"{b}-cut", "cut")
    for name, tensor in weights(same).items():
        found = saved[name]
        assert torch.equal(found[:128] if TABLES.search(name) else found, tensor), name
    rebuild("out/recipe.json", "again")
    assert torch.equal(table("again"), table(out))


def test_chat_tokens_of_one_seed_end_answers_and_are_kept_or_replaced(here):
    chatter("chat", 0, added=["<|im_end|>", "<|im_start|>"], eos="<|im_end|>")
    chatter("base", 1)
    model, words = loaded(merged("chat", "base", "common", vocab="common"))
    assert (model.config.eos_token_id, words.eos_token) == (2, "</s>")
    model, words = loaded(merged("chat", "base", "union", vocab="union"))
    assert (model.config.eos_token_id, words.eos_token) == (128, "<|im_end|>")
    model, words = loaded(merged("base", "chat", "other", vocab="union"))
    assert (model.config.eos_token_id, words.eos_token) == (128, "<|im_end|>")
    assert json.loads(Path("other/generation_config.json").read_text())["eos_token_id"] == 128


@pytest.mark.parametrize("vocab", ["common", "first"])
def test_a_tokenizer_with_tokens_without_rows_is_refused_with_the_reason(vocab, here):
    chatter("chat", 0, added=["<|im_end|>", "<|im_start|>"], eos="<|im_end|>")
    chatter("base", 1)
    error = refused("base", "chat", "--vocab", vocab, "--tokenizer", "B")
    says(error, "token 128 of chat, '<|im_end|>', has none among the 128 rows")
    says(error, f"vocab='{vocab}'", "choose the tokenizer of base, or vocab='union'")


def test_settings_whose_tokens_have_no_row_are_mended_or_refused(here):
    chatter("a", 0, added=["[X]"])
    chatter("b", 1)
    path = Path("b/generation_config.json")
    wrong = {"eos_token_id": [2, 500], "pad_token_id": 400, "suppress_tokens": [3, 600]}
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    merged("b", "a", vocab="common")
    settings = json.loads(Path("out/generation_config.json").read_text())
    assert [settings[name] for name in wrong] == [[2], 0, [3]]
    path = Path("b/tokenizer_config.json")
    path.write_text(path.read_text().replace('"eos_token": "</s>"', '"eos_token": null'))
    path = Path("b/generation_config.json")
    path.write_text(json.dumps({"eos_token_id": 500}))
    with pytest.raises(InputError, match=r"eos_token_id of generation_config.json must be a token"):
        merged("b", "a", "other", vocab="common")
    assert not Path("other").exists()


def test_both_seeds_added_tokens_are_kept_each_with_its_row(here):
    chatter("a", 0, added=["[PAD]", "<tool>"], pad="[PAD]")
    chatter("b", 1, added=["<|im_end|>", "<tool>", "<|im_start|>"], eos="<|im_end|>")
    out = merged("a", "b", vocab="union")
    model, words = loaded(out)
    ids = {text: words.convert_tokens_to_ids(text) for text in ("[PAD]", "<tool>")}
    ids |= {text: words.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|im_start|>")}
    assert list(ids.values()) == [128, 129, 130, 131]
    assert model.config.vocab_size == 132
    assert words("<|im_end|>x<tool>", add_special_tokens=False)["input_ids"] == [
        130,
        words.convert_tokens_to_ids("x"),
        129,
    ]
    for name in (EMBEDDING, "lm_head.weight"):
        a, b, found = table("a", name), table("b", name), table(out, name)
        assert torch.equal(found[128], a[128])
        assert torch.equal(found[130], b[128])
        assert torch.equal(found[131], b[130])
        low, high = torch.minimum(a[129], b[129]), torch.maximum(a[129], b[129])
        assert ((found[129] >= low - 1e-2) & (found[129] <= high + 1e-2)).all()
        assert not torch.equal(found[129], a[129])
    space = CheckpointSpace("a", "b", vocab="union")
    live(space, space.merge(*space.seeds, space.size // 3, 0.3))
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(space.tokenizer_folder)
    assert words.convert_tokens_to_ids("<|im_start|>") == 131
    ends = space.materialise(space.seeds[0]).generation_config.eos_token_id
    assert ends == [2, 130]  # by their places in the result
    rebuild("out/recipe.json", "again")
    assert (Path("again/tokenizer.json")).read_bytes() == Path("out/tokenizer.json").read_bytes()


def test_added_tokens_that_clash_at_equal_size_are_kept_too(here):
    chatter("a", 0, added=["[PAD]"])
    chatter("b", 1, added=["<|im_end|>"])
    notes = " ".join(preflight(["a", "b"]).notes)
    says(notes, "tokenizers of a and b differ: token 128 is '[PAD]' in one and '<|im_end|>'")
    found = table(merged("a", "b", vocab="union"))
    assert torch.equal(found[128:], torch.stack([table("a")[128], table("b")[128]]))
    loaded("out")
    assert torch.equal(table(merged("b", "a", "first", vocab="first"))[128:], table("b")[128:])
    loaded("first")
    # Both tokenizers have a token more than the common rows, so all rows are merged as they are.
    found = preflight(["a", "b"], vocab="common")
    assert found.plan.rows is None
    says(" ".join(found.notes), "tokenizers of a and b differ: token 128")


def test_three_seeds_share_the_rows_that_two_have(here):
    chatter("a", 0)
    for k, name in enumerate("bc"):
        chatter(name, 1 + k, added=["<x>"])
    chatter("d", 3, added=["<x>", "<y>"])
    space = CheckpointSpace("a", "b", "d", vocab="union")
    child = space.merge(space.merge(*space.seeds[:2], 0, 0.5), space.seeds[2], 0, 0.5)
    saved = live(space, child)[EMBEDDING].double()
    share = child.coef[-1][1:]
    b, d = table("b").double(), table("d").double()
    expected = (share[0] * b[128] + share[1] * d[128]) / share.sum()
    assert torch.allclose(saved[128], expected, atol=1e-2)
    assert torch.equal(saved[129], d[129])
    only = live_rows(space, space.seeds[0])
    assert torch.allclose(only[128], (b[128] + d[128]) / 2, atol=1e-2)


def live_rows(space, recipe):
    return space.materialise(recipe).state_dict()[EMBEDDING].double()


def test_biases_of_heads_have_rows_too(here):
    from transformers import PhiConfig, PhiForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    for k, (name, rows) in enumerate((("a", 65), ("b", 64))):
        torch.manual_seed(k)
        model = PhiForCausalLM(PhiConfig(vocab_size=rows, num_attention_heads=4, **sizes))
        torch.nn.init.normal_(model.lm_head.bias)
        model.save_pretrained(name)
    for vocab, rows in (("common", 64), ("union", 65)):
        space = CheckpointSpace("a", "b", vocab=vocab)
        saved = live(space, space.merge(*space.seeds, space.size // 2, 0.4))
        assert saved["lm_head.bias"].shape == (rows,)
        assert PhiForCausalLM.from_pretrained("saved").config.vocab_size == rows
        shutil.rmtree("saved")


def test_without_tokenizers_rows_are_told_by_their_numbers(here):
    llama("a", 0)
    llama("b", 1, vocab_size=72)
    found = table(merged("a", "b", vocab="union"))
    assert torch.equal(found[64:], table("b")[64:])
    assert table(merged("a", "b", "first", vocab="first")).shape == (64, 32)
    assert torch.equal(table(merged("b", "a", "two", vocab="first"))[64:], table("b")[64:])


def test_another_dtype_of_the_result_holds_the_further_rows_too(here):
    chatter("a", 0, added=["<x>"])
    chatter("b", 1)
    merged("a", "b", vocab="union", dtype="fp32")
    assert torch.equal(table("out")[128:], table("a")[128:].float())


def test_a_further_row_that_is_not_finite_is_named(here):
    chatter("a", 0, added=["<x>"])
    chatter("b", 1)
    rows = table("a")
    rows[128, 3] = float("nan")
    change("a/model.safetensors", {EMBEDDING: rows})
    with pytest.raises(InputError, match=r"a/model.safetensors, tensor model\.embed_tokens.*NaN"):
        merged("a", "b", vocab="union")


@pytest.mark.parametrize("vocab", ["common", "union", "first"])
def test_other_vocabularies_than_by_added_tokens_are_refused(vocab, here):
    llama("a", 0)
    llama("b", 1, vocab_size=72)
    tokenizer("a", [f"t{i}" for i in range(64)])
    tokenizer("b", [f"t{i}" if i != 5 else "other" for i in range(72)])
    error = refused("a", "b", "--vocab", vocab)
    says(error, "found 72 rows, and token 5 is 't5' in one and 'other' in the other")
    says(error, "use models with one tokenizer")


def test_the_same_vocabularies_are_merged_as_ever(seeds):
    plain = merged()
    for vocab in ("common", "union", "first"):
        assert table(merged(out=vocab, vocab=vocab)).equal(table(plain))
        assert json.loads(Path(vocab, "recipe.json").read_text())["vocab"] == "refuse"


def test_the_chosen_tokenizers_end_token_is_that_of_the_settings(here):
    chatter("base", 0)
    chatter("chat", 1, eos="w5")
    status, _, error = run("merge", "base", "chat", "--tokenizer", "B", "-o", "out")
    assert status == 0
    says(error, "The tokens that end an answer of base and chat differ: 2 and ")
    _, words = loaded("out")
    assert words.eos_token == "w5"
    assert json.loads(Path("out/config.json").read_text())["eos_token_id"] == words.eos_token_id


def test_chat_templates_and_generation_settings_that_differ_are_noted(here):
    chatter("a", 0)
    chatter("b", 1, template="{{ messages }}")
    path = Path("b/generation_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": 0.6}))
    notes = " ".join(preflight(["a", "b"]).notes)
    says(notes, "The chat templates of a and b differ: only one of them has one.")
    says(notes, "The settings for generation of a and b differ", "'temperature': 0.6")
    reader("a", template="{{ other }}")
    says(" ".join(preflight(["a", "b"]).notes), "The chat templates of a and b differ.")
    shutil.copytree("a", "c")
    assert not [note for note in preflight(["a", "c"]).notes if "differ:" in note]


def test_vocab_is_an_option_of_inspect_and_an_unknown_one_is_refused(here):
    chatter("a", 0, added=["<x>"])
    chatter("b", 1)
    status, out, _ = run("inspect", "a", "b", "--headers")
    assert status == 1
    says(out, "a vocabulary of 129 rows", "'common' (--vocab common)", "'union'", "'first'")
    status, out, _ = run("inspect", "a", "b", "--vocab", "union")
    assert status == 0
    says(out, "the 128 common rows are merged, 1 further one is kept from the seeds")
    says(refused("a", "b", "--vocab", "unoin"), "did you mean 'union'")


def test_tokens_that_are_extended_are_read_as_written(here, models):
    out = copy(models, "a", "a")
    reader(out, added=["<x>"])
    tokens = read_tokens(out)
    assert (tokens.base, tokens.by_id[128], tokens.flags[128]["special"]) == (128, "<x>", True)
