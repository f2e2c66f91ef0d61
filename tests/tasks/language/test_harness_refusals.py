"""Harness tasks that are refused: those that bring code, and those that cannot be used."""

import sys

import datasets
import pytest
from helpers.harness_files import KINDS, Files, metric

from m2n2lab import InputError
from m2n2lab.tasks import harness


@pytest.fixture
def written(tmp_path):
    return Files(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric_list": [metric("./mine.py")]}, r"the metric \./mine\.py, which the harness does"),
        ({"metric_list": [metric("bleu", hf_evaluate=True)]}, "hf_evaluate: True, which runs"),
        ({"dataset_kwargs": {"trust_remote_code": True}}, "trust_remote_code: True, which runs"),
        ({"unsafe_code": True}, "unsafe_code: True, which runs"),
        ({"dataset_path": "pandas"}, "dataset_path: pandas, which reads pickled"),
    ],
)
def test_other_ways_to_code_are_refused(changes, message, written):
    with pytest.raises(InputError, match=message):
        harness(written(**changes))


def test_python_objects_in_yaml_are_refused(written):
    path = written()
    path.write_text(path.read_text() + "metadata: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match=r"python/object/apply:os.getcwd …, which runs Python"):
        harness(path)


def test_a_template_reaches_no_python_objects(written):
    with pytest.raises(InputError, match=r"could not be loaded .SecurityError"):
        harness(written(doc_to_text="{{ ''.__class__.__mro__[1].__subclasses__() }}"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "f1"}, "each document, but f1 is defined only for all together; choose acc or"),
        ({"metric": "ac"}, "no metric of tiny_choice_.*; did you mean 'acc'"),
        ({"metric": "acc,strict"}, "no metric of tiny_choice_"),
        ({"limit": 0}, "limit must be an integer >= 1"),
        ({"held_out": -1}, "held_out must be an integer"),
        ({"shots": -1}, "shots must be an integer"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message, written):
    path = written(metric_list=[metric("f1", "f1"), *KINDS["choice"]["metric_list"]])
    assert harness(path).metric == "acc"  # the first that is defined for one document
    with pytest.raises(InputError, match=message):
        harness(path, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "could not be read .FileNotFoundError.*; check the path and the file"),
        ("a: [", "could not be read"),
        ("- 1\n", "could not be read .ValueError: Expected YAML dict"),
        ("dataset_path: json\n", "with the name of its task .* after 'task:', but it has"),
        ("include: gone.yaml\ntask: x\n", "could not be read .FileNotFoundError"),
        (
            "task: x\ndataset_path: json\ntest_split: test\n",
            "must name its data files, .* every json file of",
        ),
        (
            "task: x\ndataset_path: json\ndataset_kwargs: {data_files: gone.jsonl}\n",
            "could not be loaded .FileNotFoundError",
        ),
    ],
)
def test_files_that_are_no_tasks_are_refused_in_one_sentence(content, message, here):
    path = here / "task.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        harness(path)
    assert "\n" not in str(caught.value)


def test_data_that_are_empty_or_out_of_reach_are_refused_in_one_sentence(written, monkeypatch):
    with pytest.raises(InputError, match="tiny_choice") as caught:
        harness(written(rows=[]))
    assert "\n" not in str(caught.value)
    path = written()

    def unreachable(**_):
        raise ConnectionError("Couldn't reach the hub\nwith details")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    message = r"could not be loaded \(ConnectionError: Couldn't reach the hub\); check that"
    with pytest.raises(InputError, match=message):
        harness(path)


def test_without_the_harness_its_extra_is_named(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.utils", None)
    with pytest.raises(
        InputError, match=r'needs lm_eval.utils, .*pip install "m2n2lab\[harness\]"'
    ):
        harness(written())
