"""Answers of language models: the same in any company, stopped on demand, whatever they hold."""

import threading

import pytest
import torch
from helpers.checkpoints import LETTERS, letters, llama
from helpers.language import answers
from transformers import AutoTokenizer, LlamaForCausalLM

from m2n2lab import InputError
from m2n2lab.tasks import Halted, Watch
from m2n2lab.tasks.language.generation import Generator
from m2n2lab.utils.progress import Progress

PROMPTS = ["a", "how many?", "", "3 apples and 4 pears:", "b", "x" * 300, "how many? 12"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A model and its tokenizer."""
    folder = tmp_path_factory.mktemp("asked")
    llama(folder, 3, torch.float32, initializer_range=0.5, max_position_embeddings=128)
    letters(folder)
    return LlamaForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def alone(asked, prompt, new):
    """Return the likeliest continuation, token by token, without padding or a cache."""
    model, tokenizer = asked
    ids = tokenizer(prompt)["input_ids"][-(128 - new) :] or [tokenizer.bos_token_id]
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + new:
            best = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            if best == tokenizer.eos_token_id:
                break
            ids.append(best)
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_answers_are_the_likeliest_tokens_for_any_batch_size(asked):
    expected = [alone(asked, prompt, 12) for prompt in PROMPTS]
    assert len(set(expected)) > 3
    for batch in (1, 2, 3, 32):
        assert answers(Generator(12, batch), asked, PROMPTS) == expected


def test_an_answer_ends_before_a_stop_text(asked):
    whole = answers(Generator(12, 4), asked, PROMPTS)
    stop = whole[1][3:5]
    cut = answers(Generator(12, 4, [stop, "never"]), asked, PROMPTS)
    assert cut == [text.split(stop)[0] for text in whole]
    assert len(cut[1]) <= 3


def test_a_checkpoints_own_settings_for_sampling_are_not_heard(asked):
    model, tokenizer = asked
    expected = answers(Generator(8), asked, PROMPTS)
    config = model.generation_config
    model.generation_config = type(config)(do_sample=True, temperature=5.0, repetition_penalty=9.0)
    try:
        assert answers(Generator(8), (model, tokenizer), PROMPTS) == expected
    finally:
        model.generation_config = config


def test_out_of_memory_halves_the_batch_and_work_goes_on(asked, monkeypatch):
    model, _ = asked
    expected = answers(Generator(6), asked, PROMPTS)
    generate, sizes = model.generate, []

    def scarce(input_ids, **options):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("no memory left")
        return generate(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "generate", scarce)
    generator = Generator(6, batch=32)
    assert answers(generator, asked, PROMPTS) == expected
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert generator.batch == 1


def test_a_prompt_that_finds_no_memory_by_itself_is_an_error_and_so_is_any_other_fault(
    asked, monkeypatch
):
    def scarce(**_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(asked[0], "generate", scarce)
    with pytest.raises(InputError, match=r"prompt of 1 tokens must fit into memory by itself"):
        answers(Generator(6), asked, ["a"])

    def broken(**_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(asked[0], "generate", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        answers(Generator(6), asked, PROMPTS)


def test_it_can_be_stopped_between_batches_and_within_one(asked):
    halt = threading.Event()
    batches = Generator(6, 2).batches(*asked, PROMPTS, Watch(halted=halt.is_set))
    assert len(next(batches).texts) == 2
    halt.set()
    with pytest.raises(Halted):
        next(batches)

    asked_for = []

    def soon():
        asked_for.append(1)
        return len(asked_for) > 3

    with pytest.raises(Halted):
        answers(Generator(100, 2), asked, PROMPTS, watch=Watch(halted=soon))
    assert len(asked_for) == 4


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = llama(tmp_path / "small", vocab_size=20, dtype=torch.float32)
    letters(folder)
    assert len(LETTERS) > 20
    pair = LlamaForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with pytest.raises(InputError, match=r"among the model's 20, got token \d+; give"):
        answers(Generator(4), pair, PROMPTS)


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"batch": 0}])
def test_nothing_can_be_generated_with_sizes_below_one(options):
    with pytest.raises(InputError, match=f"{next(iter(options))} must be an integer"):
        Generator(**options)


def test_progress_tells_pace():
    assert Progress(done=5, total=20, tokens=80, seconds=2.0).rate == 40
    assert Progress(done=0, total=20, tokens=0, seconds=0.0).rate == 0
