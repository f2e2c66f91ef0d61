"""The zoo's training scripts, in small; and what is said where nothing has been trained."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from m2n2lab import InputError, zoo
from m2n2lab.display import percent
from m2n2lab.settings import Settings
from m2n2lab.zoo import language, train_language


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """A base and two specialists of a few batches, and where they lie."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_language, "KEPT", 60)
        patch.setattr(train_language, "BATCH", 2)
        patch.setattr(train_language, "ASKED", 2)
        train_language.main(home, steps=2, threads=1)
    return home


def test_each_lesson_is_asked_as_the_task_asks_it():
    for name, task in (("maths", zoo.word_problems(1, 0)), ("agent", zoo.shop(1, 1))):
        prompt, answer = next(train_language.LESSONS[name](0))
        assert prompt.endswith(("Answer:", task.opener if name == "agent" else "Answer:"))
        assert answer.startswith(" ")


def test_only_answers_are_learned_and_every_digit_is_a_token_of_its_own(school):
    tokenizer = AutoTokenizer.from_pretrained(school / "base")
    assert len(tokenizer) <= train_language.TOKENS
    assert tokenizer.decode(tokenizer("12+305=<<é>>")["input_ids"]) == "12+305=<<é>>"
    assert [text for text in tokenizer.tokenize("x 305") if text in "0123456789"] == ["3", "0", "5"]
    ids, labels = next(train_language.batches("maths", tokenizer, 0))
    taught = labels[0] != -100
    text = tokenizer.decode(ids[0][taught])
    assert "####" in text
    assert text.endswith(train_language.END)
    assert "Question" not in text


def test_what_is_saved_is_a_pair_that_can_be_merged(school, monkeypatch):
    for name in ("MATHS", "AGENT"):
        monkeypatch.setattr(language, name, school / name.lower())
    evolver = Settings("gsm8k+webshop", limit=2, options={"archive_size": 3}).make().run(1)
    assert evolver.task.classes == ("gsm8k", "webshop")
    assert 0.0 < evolver.space.angle(*evolver.space.seeds) < 0.5
    model = AutoModelForCausalLM.from_pretrained(school / "maths")
    assert model.dtype == torch.float16
    assert sum(weight.numel() for weight in model.parameters()) < 3_000_000


def test_a_card_tells_how_a_model_was_made_and_what_was_measured(school):
    card = (school / "maths" / "README.md").read_text("utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "922,752 parameters" in card
    assert "from the base beside it with 2 batches of 2 examples of maths" in card
    assert f"| word problems | 2 | {percent(0)} |" in card
    assert "of sums, maths, agent" in (school / "base" / "README.md").read_text("utf-8")


def test_without_trained_models_one_sentence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(language, "MATHS", tmp_path)
    with pytest.raises(InputError, match=r"not been trained yet; run python -m .*--seeds"):
        Settings("gsm8k").make()
