"""What a checkpoint's own settings may do to scores: its end tokens count, and nothing else."""

import io
import json
from pathlib import Path

import pytest
from helpers.checkpoints import chatter, reader
from helpers.merges import says

from m2n2lab import CheckpointSpace, InputError, preflight
from m2n2lab.checkpoint.checks.preflight import tokenizers_clash
from m2n2lab.checkpoint.tokens.tokenizers import read_tokens
from m2n2lab.tasks import GSM8K
from m2n2lab.tasks.language.generation import end_tokens, padding, rows_of
from m2n2lab.tasks.language.gsm8k_data import Problem
from m2n2lab.tasks.language.task import load_tokenizer

PROBLEMS = [Problem(f"what is {k} + {k}?", f"#### {2 * k}") for k in range(3)]


def quiz():
    return GSM8K(PROBLEMS, max_new_tokens=24)


@pytest.mark.parametrize("order", [("base", "chat"), ("chat", "base")])
def test_every_seeds_own_end_token_ends_an_answer(order, here):
    chatter("base", 0)
    chatter("chat", 1, eos="w5")
    end = json.loads(Path("chat/config.json").read_text())["eos_token_id"]
    space, task = CheckpointSpace(*order), quiz()
    task.check_space(space)
    for seed in space.seeds:
        model = space.materialise(seed)
        assert set(end_tokens(model, task.tokenizer(model))) == {2, end}
    notes = " ".join(space.plan.notes)
    says(notes, "The tokens that end an answer of", "differ")


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.5},
        {"bad_words_ids": [[k] for k in range(4, 90)]},
        {"sequence_bias": [[[50], 50.0]]},
        {"max_time": 1e-4},
        {"exponential_decay_length_penalty": [1, 5.0]},
        {"stop_strings": ["w"]},
        {"num_return_sequences": 2, "do_sample": True},
        {"num_return_sequences": 3},  # transformers does not load these four
        {"max_new_tokens": -3},
        {"cache_implementation": "nonsense"},
        {"pad_token_id": -1, "num_return_sequences": 2},
        {"suppress_tokens": list(range(4, 90))},
        {"forced_eos_token_id": 2, "min_length": 40},
        {"guidance_scale": 3.0},
        {"max_length": 3},
        {"do_sample": False, "temperature": 0.9},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_nothing_of_a_generation_config_steers_answers(settings, here):
    def answers():
        space, task = CheckpointSpace("a", "b"), quiz()
        task.check_space(space)
        return [a.text for a in task.answers(space.materialise(space.seeds[0]))]

    for k, name in enumerate("ab"):
        chatter(name, k, max_position_embeddings=256)
    plain = answers()
    path = Path("a/generation_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    assert answers() == plain
    assert any(plain)


def test_the_models_own_settings_are_as_before_once_it_was_asked(here):
    for k, name in enumerate("ab"):
        chatter(name, k)
    space, task = CheckpointSpace("a", "b"), quiz()
    task.check_space(space)
    model = space.materialise(space.seeds[0])
    own = model.generation_config
    own.repetition_penalty = 1.5
    task.answers(model)
    assert model.generation_config is own
    assert own.repetition_penalty == 1.5


def test_tokens_without_rows_neither_pad_nor_end(here):
    chatter("a", 0)
    chatter("b", 1)
    for name in "ab":
        reader(name, added=["[PAD]", "[END]"], pad="[PAD]", eos="[END]")
    space, task = CheckpointSpace("a", "b"), quiz()
    task.check_space(space)
    model = space.materialise(space.seeds[0])
    words = task.tokenizer(model)
    assert (words.pad_token_id, words.eos_token_id, rows_of(model)) == (128, 129, 128)
    assert padding(model, words) == 2
    assert end_tokens(model, words) == [2]
    assert len(task.answers(model)) == 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("T5ForConditionalGeneration", "an encoder with a decoder"),
        ("BertForMaskedLM", "a model that generates no text"),
        ("LlamaForSequenceClassification", "a model that generates no text"),
    ],
)
def test_models_that_cannot_go_on_with_a_prompt_are_refused(name, kind, here, monkeypatch):
    import transformers

    sizes = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 4, "intermediate_size": 32}
    if name.startswith("T5"):
        sizes = {"vocab_size": 128, "d_model": 32, "num_layers": 1, "d_ff": 32, "num_heads": 4}
    model_class = getattr(transformers, name)
    for folder in "ab":
        model_class(model_class.config_class(**sizes)).save_pretrained(folder)
        reader(folder)
    space = CheckpointSpace("a", "b")
    monkeypatch.setattr(space, "materialise", None)  # nothing is loaded
    with pytest.raises(InputError, match=f"causal language models, .*got {name}, {kind}"):
        quiz().check_space(space)


# -- tokenizers in other forms -----------------------------------------------------------------


def slow(folder, swapped=False, merges=""):
    """Replace a tokenizer by vocab.json and merges.txt."""
    for path in Path(folder).glob("*token*"):
        path.unlink()
    tokens = ["<|endoftext|>", *map(chr, range(33, 127)), "Ġ", "ab"]
    if swapped:
        tokens[1:95] = tokens[94:0:-1]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    Path(folder, "vocab.json").write_text(json.dumps(vocabulary))
    Path(folder, "merges.txt").write_text(f"#version: 0.2\n{merges}")
    about = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}
    about["unk_token"] = "<|endoftext|>"
    Path(folder, "tokenizer_config.json").write_text(json.dumps(about))


def test_vocabularies_in_other_files_are_compared_and_refused_where_models_are_asked(here):
    for k, name in enumerate("ab"):
        chatter(name, k)
        slow(name, swapped=name == "b")
    says(" ".join(preflight(["a", "b"]).notes), "differ: token 1 is '!' in one and '~' in the")
    with pytest.raises(InputError, match=r"must have one tokenizer .* token 1 is '!' in one"):
        quiz().check_space(CheckpointSpace("a", "b"))


def test_the_same_tokens_that_encode_texts_otherwise_are_told(here):
    for k, name in enumerate("ab"):
        chatter(name, k)
        slow(name, merges="" if name == "a" else "l i\nn s\na b\n")
        path = Path(name, "vocab.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "li": 97, "ns": 98}))
    notes = " ".join(preflight(["a", "b"]).notes)
    says(notes, "The tokenizers of a and b differ: 'Natalia sold clips", "is encoded as")
    with pytest.raises(InputError, match="must have one tokenizer"):
        quiz().check_space(CheckpointSpace("a", "b"))


def test_the_same_tokenizer_in_two_forms_is_one(here):
    from transformers import AutoTokenizer

    for k, name in enumerate("ab"):
        chatter(name, k)
        slow(name)
    AutoTokenizer.from_pretrained("a").save_pretrained("a")
    for name in ("vocab.json", "merges.txt"):
        Path("a", name).unlink(missing_ok=True)
    assert Path("a/tokenizer.json").is_file()
    found = preflight(["a", "b"])
    assert not [note for note in found.notes if "tokenizers" in note]
    quiz().check_space(CheckpointSpace("a", "b"))


def piece(text, kind=1):
    """Return a piece of a sentencepiece model: its text, a score and a type."""
    data = text.encode()
    inner = b"\x0a" + bytes([len(data)]) + data + b"\x15\x00\x00\x80\xbf\x18" + bytes([kind])
    return b"\x0a" + bytes([len(inner)]) + inner


@pytest.mark.parametrize("form", ["sentencepiece", "tiktoken"])
def test_tokens_are_read_from_models_without_their_libraries(form, here):
    import base64

    for k, name in enumerate("ab"):
        chatter(name, k)
        for path in Path(name).glob("*token*"):
            path.unlink()
        tokens = ["<unk>", "▁the", "x" if name == "a" else "y"]
        if form == "sentencepiece":
            trainer = b"\x12\x04\x18\x01\x20\x05"
            Path(name, "tokenizer.model").write_bytes(b"".join(map(piece, tokens)) + trainer)
        else:
            lines = [
                base64.b64encode(token.encode()) + b" %d" % id for id, token in enumerate(tokens)
            ]
            Path(name, "qwen.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    notes = " ".join(preflight(["a", "b"]).notes)
    says(notes, "The tokenizers of a and b differ: token 2 is 'x' in one and 'y' in the other.")


def test_models_with_a_sentencepiece_model_alone_are_asked(here):
    sentencepiece = pytest.importorskip("sentencepiece")
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["Question: what is 3 + 4?", "Answer: 7, no 12 but 568 or 90."] * 9),
        model_writer=trained,
        vocab_size=90,
        model_type="bpe",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    about = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    for k, name in enumerate("ab"):
        chatter(name, k)
        Path(name, "tokenizer.json").unlink()
        Path(name, "tokenizer.model").write_bytes(trained.getvalue())
        Path(name, "tokenizer_config.json").write_text(json.dumps({**about, "unk_token": "<unk>"}))
    space, task = CheckpointSpace("a", "b"), quiz()
    task.check_space(space)
    words = task.tokenizer(space.materialise(space.seeds[0]))
    read = read_tokens(Path("a")).by_id
    assert len(read) > 50
    assert read == {id: words.convert_ids_to_tokens(id) for id in read}
    assert len(task.answers(space.materialise(space.seeds[0]))) == 3


def test_a_sentencepiece_model_without_the_library_says_what_to_install(here, monkeypatch):
    Path("a").mkdir()
    Path("a/tokenizer.model").write_bytes(b"")
    monkeypatch.setattr("m2n2lab.tasks.language.task.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"The tokenizer of a needs sentencepiece.*\[llm\]"):
        load_tokenizer("a")


def test_tokenizers_that_cannot_be_compared_are_told(here):
    for k, name in enumerate("ab"):
        chatter(name, k)
    Path("b/tokenizer.json").write_text('{"model": 1}')
    says(" ".join(preflight(["a", "b"]).notes), "could not be compared by what they encode")


def test_added_tokens_that_one_alone_has_are_told(here):
    for k, name in enumerate("ab"):
        chatter(name, k, vocab_size=132)
    reader("b", added=["<think>"])
    found = preflight(["a", "b"])
    assert tokenizers_clash(found.plan) is None
    says(" ".join(found.notes), "differ in added tokens: only one of them has '<think>'")
