"""GSM8K and several tasks at once, asked of tiny models."""

import json
import pickle
import shutil
import threading
from fractions import Fraction

import datasets
import numpy as np
import pytest
import torch
from helpers.checkpoints import letters, llama, tokenizer
from helpers.language import prompts_of

from m2n2lab import Archive, CheckpointSpace, Evolver, InputError
from m2n2lab.analysis.lineage import Lineage
from m2n2lab.analysis.members import member_page
from m2n2lab.tasks import GSM8K, Halted, Tasks, Watch, from_function, gsm8k, webshop
from m2n2lab.tasks.language.gsm8k_data import Problem

PROBLEMS = [
    Problem(f"what is {k} + {k}?", f"{k}+{k}=<<{k}+{k}={2 * k}>>{2 * k}\n#### {2 * k}")
    for k in range(12)
]
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("asked")
    for seed, name in enumerate("ab"):
        llama(root / name, seed, torch.float32, initializer_range=0.5, max_position_embeddings=512)
        letters(root / name, TEMPLATE)
    return root / "a", root / "b"


@pytest.fixture(scope="module")
def space(folders):
    return CheckpointSpace(*folders)


def quiz(**options):
    return GSM8K(PROBLEMS[:8], PROBLEMS[8:], **{"max_new_tokens": 10, **options})


def written(path, problems):
    path.write_text("".join(json.dumps(p._asdict()) + "\n" for p in problems), "utf-8")
    return path


# -- prompts and answers ---------------------------------------------------------------------------


def test_each_style_has_its_own_prompt():
    question, shot = PROBLEMS[3].question, PROBLEMS[1]
    assert quiz().prompt(question) == "Question: what is 3 + 3?\nAnswer:"
    assert quiz(style="alpaca").prompt(question) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nwhat is 3 + 3?\n\n"
        "### Response: Let's think step by step."
    )
    assert quiz(examples=[shot]).prompt(question) == (
        f"Question: what is 1 + 1?\nAnswer: {shot.answer}\n\nQuestion: what is 3 + 3?\nAnswer:"
    )


def test_the_chat_style_uses_the_models_own_template(folders, tmp_path):
    from transformers import AutoTokenizer

    task = quiz(style="chat", examples=[PROBLEMS[1]])
    prompt = task.prompt("q?", AutoTokenizer.from_pretrained(folders[0]))
    assert prompt.startswith("user: what is 1 + 1?\n")
    assert f"assistant: {PROBLEMS[1].answer}\nuser: q?\n" in prompt
    assert prompt.endswith("assistant:")
    with pytest.raises(InputError, match="chat template, but this one has none"):
        task.prompt("q?", AutoTokenizer.from_pretrained(letters(tmp_path)))


def test_scores_are_the_same_for_any_batch_size_and_as_the_answers_say(folders):
    found = []
    for batch in (1, 3, 32):
        space = CheckpointSpace(*folders)
        task = quiz(batch=batch)
        task.check_space(space)
        model = space.materialise(space.merge(*space.seeds, space.size // 2, 0.4))
        answers = task.answers(model)
        found.append([(answer.prompt, answer.text, answer.number) for answer in answers])
        assert task.evaluate(model).tolist() == [a.number == a.truth for a in answers]
        assert [answer.truth for answer in answers] == [2 * k for k in range(8)]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("text", ["", "9" * 10_000, "#### " * 2000, "\x00\ufffd<b>", "#### 4"])
def test_any_text_is_scored(monkeypatch, text):
    task = quiz()
    prompts = [task.prompt(problem.question) for problem in PROBLEMS]
    monkeypatch.setattr(task, "ask", lambda model, prompts, meter: [text] * len(prompts))
    assert task.evaluate(None).tolist() == [text == "#### 4" and k == 2 for k in range(8)]
    assert task.held_out(None) == 0
    sample = task.samples(None, [2])[0]
    assert (sample.index, sample.truth, sample.answer) == (2, "4", text)
    assert (sample.text, sample.prompt) == (PROBLEMS[2].question, prompts[2])
    assert sample.prediction == ("4" if sample.right else "no number")


# -- what is kept ----------------------------------------------------------------------------------


def test_a_member_is_asked_once_and_another_is_asked_anew(space, monkeypatch):
    task = quiz()
    task.check_space(space)
    asked = []
    batches = task.generator.batches

    def counted(model, reader, prompts, watch):
        asked.append(len(prompts))
        return batches(model, reader, prompts, watch)

    monkeypatch.setattr(task.generator, "batches", counted)
    first = task.answers(space.materialise(space.seeds[0]))
    second = task.answers(space.materialise(space.seeds[1]))
    assert [a.text for a in first] != [a.text for a in second]
    model = space.materialise(space.seeds[0])
    assert task.answers(model, [5, 2]) == [first[5], first[2]]
    assert asked == [8, 8, 0]
    monkeypatch.undo()
    again = pickle.loads(pickle.dumps(task))  # as for another process, which knows nothing
    assert again.answers(model) == first


def test_an_evaluation_that_was_stopped_goes_on_where_it_was(space):
    halt, reports = threading.Event(), []

    def progress(now):
        reports.append((now.done, now.total))
        if now.done == 4:
            halt.set()

    task = quiz(batch=2)
    task.check_space(space)
    end = task.watch(Watch(progress, halt.is_set))
    model = space.materialise(space.merge(*space.seeds, 100, 0.5))
    with pytest.raises(Halted):
        task.evaluate(model)
    end()
    task.watch(Watch(lambda now: reports.append((now.done, now.total))))
    task.evaluate(model)
    assert reports == [(0, 8), (2, 8), (4, 8), (4, 8), (6, 8), (8, 8)]


# -- bad input -------------------------------------------------------------------------------------


def test_seeds_without_a_tokenizer_or_with_different_ones_are_refused(folders, tmp_path):
    for folder in folders:
        shutil.copytree(folder, tmp_path / folder.name)
    space = CheckpointSpace(tmp_path / "a", tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "a" / name).unlink()
    with pytest.raises(InputError, match=r"a must hold a tokenizer, .* but it has none; copy it"):
        quiz().check_space(space)
    quiz(tokenizer=folders[0]).check_space(space)
    tokenizer(tmp_path / "a", [f"t{k}" for k in range(64)])
    with pytest.raises(InputError, match=r"one tokenizer .* token 0 is 't0' in one and '<pad>' in"):
        quiz().check_space(space)


def test_a_model_that_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match="causal language model of transformers, got Tensor"):
        quiz().evaluate(torch.zeros(3))


def test_files_are_read_in_parts(tmp_path, monkeypatch):
    written(tmp_path / "train.jsonl", PROBLEMS[:8])
    alone = gsm8k(tmp_path / "train.jsonl")
    assert (alone.points, alone.point_name(0)) == (6, PROBLEMS[0].question)
    written(tmp_path / "test.jsonl", PROBLEMS[8:])
    task = gsm8k(tmp_path, limit=4, shots=2)
    assert task.problems == tuple(PROBLEMS[:4])
    assert task.examples == tuple(PROBLEMS[6:8])
    asked = prompts_of(task, monkeypatch)
    task.held_out(None)
    (prompt,) = asked
    assert PROBLEMS[8].question in prompt
    assert gsm8k(tmp_path, held_out=3).points == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"must be a folder with train\.jsonl .* there is no such file; check the path"),
        ("", "must hold problems, but it is empty"),
        ("{\n", "a JSON object in each line, but line 1 is not one"),
        ('{"question": "q"}\n', "with a question and an answer, but line 1 is"),
        (
            '{"question": "q", "answer": "#### 1"}\n\n{"question": "q", "answer": "7"}\n',
            r"test\.jsonl must hold answers that end in '#### ' .* in line 3 is '7'; write it",
        ),
        ("\x00\n[1]\n", "line 1 is not one"),
    ],
)
def test_files_that_hold_no_problems_are_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "test.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        gsm8k(path)
    assert "\n" not in str(caught.value)


def test_an_unreachable_hub_and_a_folder_without_files_are_refused_in_one_sentence(
    monkeypatch, tmp_path
):
    def unreachable(*_):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError, match=r"\(ConnectionError: no route\); give a folder with"):
        gsm8k()
    with pytest.raises(InputError, match=r"there is no train\.jsonl or test\.jsonl"):
        gsm8k(tmp_path)


def test_the_hubs_own_form_is_read(monkeypatch):
    rows = [problem._asdict() for problem in PROBLEMS]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: {"train": rows[:8], "test": rows[8:]})
    assert gsm8k(limit=5).problems == tuple(PROBLEMS[:5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "alpacca"}, "did you mean 'alpaca'"),
        ({"extraction": "loose"}, "no extraction named 'loose'"),
        ({"tokenizer": "nowhere/at-all/x"}, "tokenizer of nowhere/at-all/x could not be loaded"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        quiz(**options)


# -- several tasks ---------------------------------------------------------------------------------


def row_task(name, columns, **known):
    return from_function(lambda model, at: model[columns][at], len(columns), name=name, **known)


def test_two_tasks_become_one_whose_data_points_are_grouped_by_task():
    one = row_task("one", [0, 1, 2], held_out=lambda model: 0.5)
    two = row_task("two", [3], names=["trip"], graded=True, held_out=lambda model: 1.0)
    both = one + two
    model = np.array([1.0, 0.0, 1.0, 0.25])
    assert (both.points, both.name, both.graded) == (4, "one+two", True)
    assert (both.classes, both.groups.tolist()) == (("one", "two"), [0, 0, 0, 1])
    assert [both.point_name(k) for k in range(4)] == ["0", "1", "2", "trip"]
    assert both.evaluate(model).tolist() == [1, 0, 1, 0.25]
    assert both.evaluate(model, [3, 0, 1]).tolist() == [0.25, 1, 0]
    assert both.held_out(model) == 0.75
    assert both.held_out_by_class(model) == {"one": 0.5, "two": 1.0}
    assert (one + two + one).classes == ("one", "two", "one 2")


def test_a_small_task_has_the_same_capacity_as_a_large_one():
    both = Tasks([row_task("one", [0, 1, 2]), row_task("two", [3])])
    assert both.shares.tolist() == pytest.approx([2 / 3] * 3 + [2])
    archive = Archive(4, 3, shares=both.shares)
    archive.add(0, "solves the large task", [1, 1, 1, 0])
    archive.add(1, "solves the small one", [0, 0, 0, 1])
    assert archive.fitness == pytest.approx([2, 2])
    assert [member.score for member in archive.members] == pytest.approx([0.5, 0.5])
    archive.add(2, "solves the small one, too", [0, 0, 0, 1])
    assert archive.fitness == pytest.approx([2, 1, 1])


def test_shares_that_do_not_fit_and_tasks_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"shares must be one factor for each of the 4"):
        Archive(4, 3, shares=[1, 2])
    with pytest.raises(InputError, match="got str among them"):
        Tasks(["gsm8k"])
    with pytest.raises(InputError, match="at least one task, got none"):
        Tasks([])


def test_samples_of_several_tasks_come_in_the_order_they_were_asked_for(space):
    both = quiz() + quiz(style="alpaca", name="alpaca")
    both.check_space(space)
    model = space.materialise(space.seeds[0])
    samples = both.samples(model, [9, 1, 8])
    assert [sample.index for sample in samples] == [9, 1, 8]
    assert [sample.truth for sample in samples] == ["2", "2", "0"]
    assert "### Instruction" in samples[0].prompt
    assert samples[1].prompt.startswith("Question:")
    assert Fraction(samples[0].truth) == 2


def test_a_search_over_both_tasks_shows_what_its_best_member_wrote(folders, monkeypatch):
    shop = webshop(limit=3, turns=2, max_new_tokens=6)
    evolver = Evolver(quiz() + shop, list(map(str, folders)), archive_size=3, rng=0).run(2)
    assert evolver.generation == 2
    assert not np.isnan(evolver.test)
    monkeypatch.setattr(shop.generator, "batches", lambda *_: iter(()))  # nothing is asked again
    page = member_page(evolver, Lineage(evolver), evolver.best.id)
    assert page.classes == ("gsm8k", "webshop")
    samples = {sample.index: sample for sample in (*page.right, *page.wrong)}
    assert samples[10].text == shop.goals[2].instruction
    assert samples[10].answer.startswith("Observation: WebShop [SEP] Instruction:")
    assert page.confusion is None


def test_a_shop_without_its_libraries_says_what_to_install(monkeypatch):
    monkeypatch.setattr("m2n2lab.tasks.shopping.simulator.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'needs bm25s, .* run: pip install "m2n2lab\[llm\]"'):
        webshop(limit=3)
