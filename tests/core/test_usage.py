"""First uses of the library, as a user writes them, with fewer steps."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import m2n2lab as lab


def test_a_student_needs_ten_lines(capsys):
    task = lab.tasks.digits()
    evolver = lab.Evolver(task, task.random_seeds(2, rng=0), archive_size=20, mutation=0.01, rng=0)
    for generation in evolver:
        if generation.accepted and generation.step > 100:
            break
    evolver.run(50)
    print(generation)
    print(evolver.best, evolver.history.tail())

    said = capsys.readouterr().out
    assert said.startswith(f"step {generation.step}: child {generation.child} (")
    assert f"rank {generation.verdict.rank}, lives" in said
    assert f"Member(id={evolver.best.id}, born=" in said
    assert "genome" not in said  # 19,210 numbers say nothing to a reader
    assert evolver.generation == generation.step + 50
    assert len(evolver.archive) == 20
    last = evolver.history.iloc[-1]
    assert (last["best"], last["train"]) == (evolver.best.id, evolver.best.score)
    assert evolver.best.score > 0.2  # ten digits: guessing is right on a tenth


def test_a_person_can_steer(tiny, tiny_seeds):
    evolver = lab.Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.02, rng=0).run(40)
    a, b = evolver.archive.ids[-2:]

    proposal = evolver.ask(parents=(a, b), split=40, mix=0.79)
    scores = evolver.evaluate(proposal)
    verdict = evolver.verdict(scores)
    generation = evolver.tell(proposal, scores)

    assert scores.shape == (60,)
    assert generation.verdict == verdict
    assert generation.parents == (a, b)
    assert generation.before.of(a) is not None
    assert generation.before.of(generation.child) is None
    assert evolver.history.iloc[-1][["split", "mix"]].tolist() == [40, 0.79]
    with pytest.raises(AttributeError):
        generation.child = 0  # a frozen record
    with pytest.raises(AttributeError):
        proposal.mix = 0.5


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (
            lab.Verdict(True, 0.5, 67.04, 1, 21, 4199, 66.0, 1),
            "Would live. Fitness 67.0 ranks 1 of 21 and displaces 4199 (66.0). "
            "It scores on 1 data point where nobody else does.",
        ),
        (
            lab.Verdict(False, 0.5, 65.0, 21, 21, 7, 66.0, 0),
            "Would not live. Fitness 65.0 is the lowest of 21; the weakest member, 7, has 66.0.",
        ),
        (
            lab.Verdict(False, 0.5, 65.9712, 21, 21, 7, 65.9748, 0),
            "Would not live. Fitness 65.971 is the lowest of 21; "
            "the weakest member, 7, has 65.975.",
        ),
        (
            lab.Verdict(True, 0.5, 65.97, 20, 21, 7, 65.97, 0),  # at a draw the child stays
            "Would live. Fitness 66.0 ranks 20 of 21 and displaces 7 (66.0).",
        ),
        (
            lab.Verdict(True, 0.5, 2.0, 3, 3, None, None, 2),
            "Would live. Fitness 2.0 ranks 3 of 3 and there is room for it. "
            "It scores on 2 data points where nobody else does.",
        ),
    ],
)
def test_a_verdict_is_a_sentence(verdict, text):
    assert str(verdict) == text


def test_methods_are_compared_by_name(tiny, tiny_seeds):
    task, seeds = tiny, tiny_seeds
    runs = {
        m: lab.make_evolver(m, task, seeds, rng=0) for m in ("m2n2", "ga", "map-elites", "cma-es")
    }
    tests = {name: run.run(60).history["test"] for name, run in runs.items()}
    assert [run.method for run in runs.values()] == list(tests)
    assert all(len(values) == 60 and values.between(0, 1).all() for values in tests.values())
    assert all(method.words for method in lab.METHODS.values())


def test_ones_own_task_is_one_function():
    torch.manual_seed(0)
    X = torch.randn(30, 2)
    y = (X.sum(1) > 0).long()
    task = lab.tasks.from_function(
        lambda model, indices: model(X[indices]).argmax(1) == y[indices], points=len(X)
    )
    evolver = lab.Evolver(task, [nn.Linear(2, 2), nn.Linear(2, 2)], mutation=0.2, rng=0)
    first = evolver.best.score
    evolver.run(100)
    assert evolver.best.score > max(0.9, first)
    assert np.isnan(evolver.history["test"]).all()


def test_importing_the_lab_imports_nothing_heavy():
    heavy = ["torch", "sklearn", "pandas", "holoviews", "panel", "bokeh", "cma", "numpy"]
    code = f"import sys, m2n2lab; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_searching_imports_no_user_interface_and_digits_no_scikit_learn():
    code = """
import sys
import m2n2lab as lab
lab.tasks.digits()
task = lab.tasks.from_function(lambda model, at: model[at] > 0, 2)
for method in lab.METHODS:
    lab.make_evolver(method, task, [[1.0, 0.0], [0.0, 1.0]], mutation=0.1).run(3)
heavy = "holoviews", "panel", "bokeh", "matplotlib", "IPython", "m2n2lab.widgets", "m2n2lab.viz"
heavy += ("sklearn",)
print([module for module in heavy if module in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_every_public_name_can_be_imported():
    assert set(lab.__all__) <= set(dir(lab))
    for name in ("Archive", "DenseSpace", "Evolver", "InputError", "Layout", "Proposal", "Task"):
        assert name in lab.__all__
        assert getattr(lab, name).__name__ == name
    with pytest.raises(AttributeError, match="'m2n2lab' has no attribute 'Evolve'"):
        _ = lab.Evolve


@pytest.mark.skipif(
    importlib.util.find_spec("m2n2lab.viz.html") is None, reason="m2n2lab.viz.html is not there"
)
def test_a_notebook_shows_a_search_as_html(tiny, tiny_seeds):
    html = lab.Evolver(tiny, tiny_seeds).run(3)._repr_html_()
    assert html.lstrip().startswith("<")
