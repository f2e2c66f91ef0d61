"""Tasks of lm-evaluation-harness from local files, asked of tiny models and offline."""

import json
import math
import pickle
import threading

import numpy as np
import pytest
import torch
import yaml
from helpers.checkpoints import letters, llama
from helpers.harness_files import KINDS, ROWS, Files, metric
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.tasks import Halted, Tasks, Watch, harness, make_again
from m2n2lab.tasks.language import harness_source
from m2n2lab.tasks.language.harness_source import load

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("harness")


@pytest.fixture(scope="module")
def space(folder):
    for seed, name in enumerate("ab"):
        llama(folder / name, seed, torch.float32, initializer_range=0.5)
        letters(folder / name, TEMPLATE)
    return CheckpointSpace(folder / "a", folder / "b")


@pytest.fixture(scope="module")
def model(space):
    return space.materialise(space.merge(*space.seeds, space.size // 2, 0.4))


@pytest.fixture(scope="module")
def written(folder):
    return Files(folder)


def ready(space, *args, **options):
    task = harness(*args, **options)
    task.check_space(space)
    return task


def results_of_the_harness(path, model, tokenizer, name, shots=0):
    """What the harness's own evaluator logs of each document, and the values of a metric."""
    lm, tasks = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4), load(path)
    for task in tasks.values():
        task.set_config(key="num_fewshot", value=shots)
        task.set_fewshot_seed(1234)
    found = evaluate(lm=lm, task_dict={"tasks": tasks, "groups": {}}, bootstrap_iters=0)
    (samples,) = found["samples"].values()
    return samples, [sample[name] for sample in samples if name in sample]


# -- scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "score"),
    [
        ("choice", "acc", bool),
        ("choice", "acc_norm", bool),
        ("likely", "acc", bool),
        ("likely", "perplexity", lambda ll: 1 / (1 + math.exp(-ll))),
        ("text", "bits_per_byte", lambda pair: 1 / (1 - pair[0] / pair[1] / math.log(2))),
        ("text", "word_perplexity", lambda pair: 1 / (1 + math.exp(-pair[0] / pair[1]))),
    ],
)
@pytest.mark.parametrize("shots", [0, 2])
def test_each_documents_score_is_what_the_harness_says_of_it(
    kind, name, score, shots, space, model, written
):
    path = written(kind)
    task = ready(space, path, limit=10, held_out=0, metric=name, shots=shots, batch=3)
    _, values = results_of_the_harness(path, model, task.tokenizer(model), name, shots)
    scores = task.evaluate(model)
    assert scores.dtype == (bool if score is bool else float)
    assert scores == pytest.approx([score(value) for value in values], rel=1e-4)
    assert task.evaluate(space.materialise(space.seeds[0]), [7, 2, 2]).shape == (3,)
    # A subset says the same, in a task that has seen nothing else.
    again = ready(space, path, limit=10, held_out=0, metric=name, shots=shots, batch=10)
    assert again.evaluate(model, [7, 2]) == pytest.approx(scores[[7, 2]], rel=1e-4)


def test_answers_in_words_are_filtered_and_matched_as_the_harness_does(space, model, written):
    path = written("words")
    first = ready(space, path, limit=10, held_out=0)
    samples, _ = results_of_the_harness(path, model, first.tokenizer(model), "exact_match")
    answers = {(s["filter"], s["doc_id"]): s for s in samples}
    rows = [
        {**row, "answer": answers["digit", k]["filtered_resps"][0]} for k, row in enumerate(ROWS)
    ]
    path = written("words", rows=[*rows[:5], *ROWS[5:]])
    for wanted in (None, "exact_match", "exact_match,whole", "exact_match,digit"):
        task = ready(space, path, limit=10, held_out=0, metric=wanted)
        filtered = "digit" if wanted == "exact_match,digit" else "whole"
        truth = [row["answer"] for row in (*rows[:5], *ROWS[5:])]
        got = [answers[filtered, k]["filtered_resps"][0] for k in range(10)]
        assert task.evaluate(model).tolist() == [a == b for a, b in zip(got, truth, strict=True)]
        shown = task.samples(model, [3, 0])
        assert [sample.index for sample in shown] == [3, 0]
        assert shown[0].answer == answers["whole", 3]["resps"][0][0]
        assert shown[0].prediction == got[3].strip()
        assert (shown[0].truth, shown[0].prompt) == (truth[3], ROWS[3]["question"])
    assert task.evaluate(model)[:5].all()  # they were made so


def test_less_is_better_is_turned_round(space, model, written):
    better = ready(space, written("likely"), limit=10, held_out=0, metric="acc").evaluate(model)
    turned = written("likely", metric_list=[metric("acc", higher=False)])
    task = ready(space, turned, limit=10, held_out=0)
    assert task.evaluate(model).tolist() == (~better).tolist()
    task = ready(space, turned, limit=10, held_out=0, loss=True)
    # A loss of 1 is worth 1 / (1 + 1).
    assert task.evaluate(model).tolist() == [0.5 if right else 1.0 for right in better]
    brier = ready(space, written(), limit=10, held_out=0, metric="brier_score")
    assert brier.graded
    scores = brier.evaluate(model)
    assert ((scores >= 1 / 3) & (scores <= 1)).all()  # a Brier score is at most 2


def test_models_that_know_nothing_score_zero_and_not_nan(space, written):
    model = space.materialise(space.seeds[0])
    broken = type(model)(model.config)
    with torch.no_grad():
        for weight in broken.parameters():
            weight.fill_(torch.nan)
    tokenizer = space.tokenizer_folder
    for kind in ("likely", "text"):
        task = harness(written(kind), limit=4, held_out=0, tokenizer=tokenizer)
        assert task.evaluate(broken).tolist() == [0.0] * 4


def test_neither_model_nor_tokenizer_is_changed(space, written):
    model = space.materialise(space.seeds[1])
    task = ready(space, written("words"), limit=3)
    tokenizer = task.tokenizer(model)
    tokenizer.pad_token = None
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    task.evaluate(model)
    assert tokenizer.pad_token is None
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_asking_leaves_the_searchs_own_random_numbers_alone(space, model, written):
    task = ready(space, written("words"), limit=3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    task.evaluate(model)
    assert torch.equal(before, torch.get_rng_state())


# -- what a task knows -----------------------------------------------------------------------------


def test_documents_are_searched_on_from_the_front_and_held_out_behind(space, model, written):
    path = written()
    whole = ready(space, path, limit=10, held_out=0)
    scores = whole.evaluate(model)
    assert math.isnan(whole.held_out(model))
    for options, many, tested in (({}, 8, 2), ({"limit": 4}, 4, 1), ({"limit": 99}, 8, 2)):
        task = ready(space, path, **options)
        assert task.names == [row["question"] for row in ROWS[:many]]
        assert task.evaluate(model).tolist() == scores[:many].tolist()
        assert task.held_out(model) == np.mean(scores[many : many + tested])
        assert task.held_out_by_class(model) == {task.name: task.held_out(model)}


@pytest.mark.parametrize("kind", [*KINDS])
def test_samples_show_the_question_the_answer_and_the_truth(kind, space, model, written):
    task = ready(space, written(kind), limit=8)
    (sample,) = task.samples(model, [4])
    row = ROWS[4]
    shown = {"choice": ("question", "seven"), "text": ("passage", row["passage"])}
    question, truth = shown.get(kind, ("question", row["answer"]))
    assert (sample.text, sample.truth) == (row[question], truth)
    assert sample.prompt == (None if kind == "text" else row["question"])
    assert sample.right == (task.evaluate(model, [4])[0] >= 1)
    if kind == "choice":
        lines = [line.split(" ", 1) for line in sample.answer.splitlines()]
        assert [choice for _, choice in lines] == row["choices"]
        assert sample.prediction == max(lines, key=lambda line: float(line[0]))[1]
        assert sample.right == (sample.prediction == truth)
    if kind in ("likely", "text"):
        assert "-" in sample.answer


def test_a_chat_template_is_used_where_it_is_asked_for(space, model, written, folder):
    path = written()
    (sample,) = ready(space, path, chat=True, shots=1).samples(model, [0])
    assert sample.prompt.startswith("user: ")
    assert sample.prompt.count("user: ") == 2
    assert sample.prompt.endswith(f"user: {ROWS[0]['question']}\nassistant:")
    bare = harness(path, chat=True, tokenizer=letters(folder / "bare"))
    with pytest.raises(InputError, match="a chat template, but this one has none"):
        bare.evaluate(model)


def test_a_member_is_asked_once_and_a_stopped_evaluation_goes_on(space, written):
    model = space.materialise(space.merge(*space.seeds, 100, 0.5))
    halt, reports = threading.Event(), []

    def progress(now):
        reports.append((now.done, now.total))
        if now.done == 4:
            halt.set()

    task = ready(space, written(), limit=8, batch=2)
    end = task.watch(Watch(progress, halt.is_set))
    with pytest.raises(Halted):
        task.evaluate(model)
    assert reports == [(0, 8), (2, 8), (4, 8)]
    end()
    task.watch(Watch(lambda now: reports.append((now.done, now.total))))
    scores = task.evaluate(model)
    assert reports[3:] == [(4, 8), (6, 8), (8, 8)]
    assert task.evaluate(model, [3, 1]).tolist() == scores[[3, 1]].tolist()
    assert reports[6:] == [(2, 2)]


def test_it_goes_to_another_process_and_is_made_again(space, model, written):
    task = ready(space, written(), limit=5, metric="acc_norm", batch=2)
    again = make_again(json.loads(json.dumps(task.origin)))
    again.check_space(space)
    copy = pickle.loads(pickle.dumps(task))
    for other in (again, copy):
        assert other.identity() == task.identity()
        assert other.evaluate(model).tolist() == task.evaluate(model).tolist()


def test_a_group_is_several_tasks(space, model, written, folder):
    inside = [yaml.safe_load(written(kind).read_text()) for kind in ("choice", "likely")]
    path = folder / "group.yaml"
    path.write_text(yaml.safe_dump({"group": "both", "task": inside}))
    task = ready(space, path, limit=4, metric="acc")
    assert isinstance(task, Tasks)
    assert task.evaluate(model).shape == (8,)
    assert make_again(task.origin).identity() == task.identity()


def test_a_name_is_looked_up_in_the_harness(written, folder, monkeypatch):
    path = written()
    known = TaskManager(include_path=str(folder), include_defaults=False)
    monkeypatch.setattr(harness_source, "_manager", lambda: known)
    monkeypatch.chdir(folder)
    assert harness(path.stem).name == path.stem
    with pytest.raises(InputError, match=f"no task named 'x{path.stem}'; did you mean"):
        harness(f"x{path.stem}")


# -- what is refused -------------------------------------------------------------------------------


def code(folder):
    """A Python file beside the YAML that says that it ran."""
    (folder / "beside.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_suffix('.ran').touch()\n"
        "def question(doc):\n    return 'Q: ' + doc['question']\n"
    )
    return folder / "beside.ran"


@pytest.mark.parametrize("included", [False, True])
def test_code_beside_a_file_runs_only_if_it_is_trusted(included, space, model, written, folder):
    ran, path = code(folder), written()
    ran.unlink(missing_ok=True)
    text = path.read_text().replace("'{{question}}'", "!function beside.question")
    assert "!function" in text
    if included:
        (folder / "base.yaml").write_text(text)
        text = "include: base.yaml\n"
    path.write_text(text)
    with pytest.raises(InputError, match=r"!function beside\.question, which runs Python code; re"):
        harness(path)
    assert not ran.exists()
    task = ready(space, path, limit=4, metric="acc", functions=True)
    assert task.point_name(1) == f"Q: {ROWS[1]['question']}"
    assert task.evaluate(model).shape == (4,)
    assert pickle.loads(pickle.dumps(task)).evaluate(model).shape == (4,)


def test_a_metric_outside_its_bounds_is_refused(space, model, written):
    few = written("likely", metric_list=[metric("perplexity", "mean", False)])
    with pytest.raises(InputError, match=r"perplexity of tiny_likely_\d+ must give a score in"):
        ready(space, few).evaluate(model)
