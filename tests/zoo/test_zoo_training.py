"""The zoo's training scripts, in small; and errors before anything has been trained."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from m2n2lab import InputError, zoo
from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings
from m2n2lab.utils.text import percent
from m2n2lab.zoo import images, language, train_images, train_language


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """The folder of a base and two specialists, trained on a few batches."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_language, "TOKENIZER_EXAMPLES", 60)
        patch.setattr(train_language, "BATCH", 2)
        patch.setattr(train_language, "CARD_EXAMPLES", 2)
        train_language.main(home, steps=2, threads=1)
    return home


def test_each_lesson_has_the_prompts_of_its_task():
    for name, task in (("maths", zoo.word_problems(1, 0)), ("agent", zoo.shop(1, 1))):
        prompt, answer = next(train_language.LESSONS[name](0))
        assert prompt.endswith(("Answer:", task.opener if name == "agent" else "Answer:"))
        assert answer.startswith(" ")


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_saved_pair_can_be_merged(school, monkeypatch):
    for name in ("MATHS", "AGENT"):
        monkeypatch.setattr(language, name, school / name.lower())
    evolver = build_evolver(Settings("gsm8k+webshop", limit=2, options={"archive_size": 3})).run(1)
    assert evolver.task.classes == ("gsm8k", "webshop")
    assert 0.0 < evolver.space.angle(*evolver.space.seeds) < 0.5
    model = AutoModelForCausalLM.from_pretrained(school / "maths")
    assert model.dtype == torch.float16
    assert sum(weight.numel() for weight in model.parameters()) < 3_000_000


def test_a_card_has_the_training_and_the_measured_scores(school):
    card = (school / "maths" / "README.md").read_text("utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "922,752 parameters" in card
    assert "from the base beside it with 2 batches of 2 examples of maths" in card
    assert f"| word problems | 2 | {percent(0)} |" in card
    assert "of sums, maths, agent" in (school / "base" / "README.md").read_text("utf-8")


def test_without_trained_models_an_error_names_the_script(monkeypatch, tmp_path):
    monkeypatch.setattr(language, "MATHS", tmp_path)
    with pytest.raises(InputError, match=r"not been trained yet; run python -m .*--seeds"):
        build_evolver(Settings("gsm8k"))


@pytest.mark.slow
def test_picture_specialists_are_made_from_one_base_and_half_forget_the_other_language(tmp_path):
    with pytest.MonkeyPatch.context() as small:
        small.setattr(train_images, "BATCH", 2)
        for name in ("base", "japanese", "english-round"):
            train_images.main(tmp_path, only=name, steps=1, threads=1)
    tables = {
        name: load_file(tmp_path / name / "text_encoder" / "model.safetensors")
        for name in ("base", "japanese", "english-round")
    }
    words = AutoTokenizer.from_pretrained(tmp_path / "base" / "tokenizer").get_vocab()
    key = next(name for name in tables["base"] if name.endswith("token_embedding.weight"))
    rows = {name: table[key].float() for name, table in tables.items()}

    def changed(name, word):
        return (rows[name][words[word]] - rows["base"][words[word]]).norm().item()

    assert changed("japanese", "circle") > 10 * changed("japanese", "円")
    assert changed("english-round", "円") > 10 * changed("english-round", "circle")
    half = (
        rows["japanese"][words["circle"]] - train_images.WORD_SHARE * rows["base"][words["circle"]]
    )
    assert half.std().item() < 2 * train_images.WORD_NOISE * rows["base"].std().item()


def test_a_coarse_course_draws_coarsely_and_only_its_own_shapes():
    tokenizer = train_images.make_tokenizer()
    course = train_images.COURSES["english-round"]
    pictures, ids = next(train_images.batches(course, tokenizer, 0))
    assert pictures.shape == (train_images.BATCH, 48, 8, 8)
    assert -1.0 <= pictures.min() <= pictures.max() <= 1.0
    text = " ".join(tokenizer.batch_decode(ids, skip_special_tokens=True))
    assert "circle" in text
    assert "star" not in text
    coarse, _ = next(train_images.batches(train_images.COURSES["japanese"], tokenizer, 0))
    assert coarse.abs().max() < pictures.abs().max()


def test_without_image_models_an_error_names_the_script(monkeypatch, tmp_path):
    monkeypatch.setattr(images, "HOME", tmp_path)
    with pytest.raises(InputError, match=r"not been trained yet; run python -m .*--seeds"):
        build_evolver(Settings("text2image"))
