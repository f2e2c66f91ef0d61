import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from m2n2lab import DenseSpace, Evolver, InputError, Sample, Task
from m2n2lab.tasks import Classify, from_function
from m2n2lab.tasks.classify import to_onednn

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = np.array([0, 1, 1, 0])


def vector_of(model):
    """Return a torch network's weights in the layout of ``Classify`` (inputs × outputs)."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    parts = [part for layer in layers for part in (layer.weight.T.reshape(-1), layer.bias)]
    return torch.cat(parts).detach()


def perceptron(*widths):
    torch.manual_seed(len(widths))
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def random_model(task, seed=0):
    return torch.from_numpy(task.random_seeds(1, rng=seed, scale=0.5)[0])


# -- tasks of one function ------------------------------------------------------------------------


def test_one_function_makes_a_task_for_vectors():
    task = from_function(lambda model, at: model[at] > 0.5, 3)
    assert task.evaluate(torch.tensor([1.0, 0.0, 2.0])).tolist() == [True, False, True]
    assert task.evaluate(np.array([1.0, 0.0, 2.0]), [2, 1]).tolist() == [True, False]
    evolver = Evolver(task, [[1, 0, 0], [0, 1, 1]]).run(10)
    assert evolver.archive.coverage == 1.0


def test_one_function_makes_a_task_for_modules():
    x, y = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(Y)
    seeds = [perceptron(2, 4, 2), perceptron(2, 4, 2)]
    task = from_function(lambda model, at: model(x[at]).argmax(1) == y[at], 4)
    evolver = Evolver(task, seeds, mutation=0.3).run(50)
    model = evolver.space.materialise(evolver.best.genome)
    assert isinstance(model, nn.Sequential)
    assert (model(x).argmax(1) == y).double().mean() == evolver.best.score


def test_graded_scores_of_a_module_need_no_detaching():
    x, y = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(Y)
    task = from_function(lambda model, at: model(x).softmax(1)[at, y[at]], 4, graded=True)
    evolver = Evolver(task, [perceptron(2, 4, 2), perceptron(2, 4, 2)], mutation=0.3).run(5)
    assert evolver.archive.capacity == "max"
    assert 0.0 < evolver.best.score < 1.0


def test_a_graded_task_competes_for_the_best_score_of_a_point():
    task = from_function(lambda model, at: model[at], 3, graded=True)
    evolver = Evolver(task, [[0.5, 0.25, 0], [0.25, 0.5, 0]])
    # z = .75 .75 0, c = .5 .5 0: both have .5·.5/.75 + .5·.25/.75 = 1/2
    assert evolver.archive.fitness == pytest.approx([0.5, 0.5])


def test_a_task_of_one_function_has_defaults_for_the_rest():
    task = from_function(lambda _, at: np.ones(len(at)), 3)
    assert (task.points, task.name, task.graded, task.classes) == (3, "task", False, ("all",))
    assert task.groups.tolist() == [0, 0, 0]
    assert task.point_name(2) == "2"
    assert np.isnan(task.held_out(None))
    assert task.samples(None, [0, 1]) == []
    assert isinstance(task.space([[1, 2], [3, 4]]), DenseSpace)


def test_names_groups_samples_and_a_held_out_part_are_optional():
    task = from_function(
        lambda _, at: np.ones(len(at)),
        3,
        held_out=lambda model: model / 2,
        samples=lambda _, at: [Sample(int(i), "yes", "no", False, text="?") for i in at],
        name="quiz",
        classes=("easy", "hard"),
        groups=[0, 1, 1],
        names=["a", "b", "c"],
    )
    assert task.held_out(1.0) == 0.5
    assert [sample.index for sample in task.samples(None, [2, 0])] == [2, 0]
    assert task.name == "quiz"
    assert [task.classes[group] for group in task.groups] == ["easy", "hard", "hard"]
    assert [task.point_name(i) for i in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_names_and_groups_may_be_any_sequence(kind):
    task = from_function(
        lambda _, at: at, 3, names=kind(["a", "b", "c"]), groups=kind([0, 1, 0]), classes="xy"
    )
    assert task.point_name(1) == "b"
    assert task.groups.tolist() == [0, 1, 0]


def test_a_task_of_ones_own_overrides_score():
    class Signs(Task):
        def score(self, model, indices):
            return (model > 0)[slice(None) if indices is None else indices]

    task = Signs(3)
    assert task.evaluate(np.array([1, -1, 1])).tolist() == [True, False, True]
    assert task.evaluate(np.array([1, -1, 1]), [1]).tolist() == [False]


# -- classification -------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (5,), (16,), (7, 3), (4, 4, 4)])
def test_a_vector_is_the_network_that_torch_makes_of_it(hidden, tiny):
    data, truth = tiny.training
    task = Classify(data.numpy(), truth.numpy(), data[:9].numpy(), truth[:9].numpy(), hidden=hidden)
    assert task.widths == (8, *hidden, 4)
    model = perceptron(*task.widths)
    vector = vector_of(model)
    assert task.layout.size == len(vector)
    expected = model(data).detach()
    assert torch.allclose(task.logits(vector, data), expected, atol=1e-6)
    right = expected.argmax(1) == truth
    assert task.evaluate(vector).tolist() == right.tolist()
    assert 0 < right.double().mean() < 1
    assert task.held_out(vector) == pytest.approx(right[:9].double().mean().item())


def test_a_torch_without_onednn_gives_the_same_answers(tiny, monkeypatch):
    vector, (x, y) = random_model(tiny, 1), tiny.training
    with_it = tiny.evaluate(vector)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    without = Classify(x.numpy(), y.numpy(), hidden=tiny.widths[1:-1])
    assert to_onednn(x) is x
    assert without.evaluate(vector).tolist() == with_it.tolist()


def test_a_task_that_has_scored_can_be_sent_to_another_process(tiny):
    model = random_model(tiny)
    right, held_out = tiny.evaluate(model), tiny.held_out(model)
    sent = pickle.loads(pickle.dumps(tiny))
    assert np.array_equal(sent.evaluate(model), right)
    assert sent.held_out(model) == pytest.approx(held_out, nan_ok=True)


def test_of_equal_outputs_the_first_class_is_predicted(tiny):
    nothing = torch.zeros(tiny.layout.size)
    assert tiny.predict(nothing, tiny.training[0]).tolist() == [0] * 60
    assert tiny.evaluate(nothing).tolist() == (tiny.groups == 0).tolist()


@given(st.lists(st.integers(0, 59)), st.integers(0, 3))
def test_some_points_are_scored_as_all_are(tiny, indices, seed):
    model = random_model(tiny, seed)
    everything = tiny.evaluate(model)
    assert np.array_equal(tiny.evaluate(model, indices), everything[np.array(indices, int)])
    assert tiny.evaluate(model, indices).dtype == bool


def test_samples_show_what_a_model_makes_of_a_point():
    images = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    task = Classify(images, [0, 1, 0, 1, 1], hidden=4, classes=("cat", "dog"))
    assert task.image_shape == (2, 3)
    model = random_model(task)
    answers = task.predict(model, task.training[0]).tolist()
    right = task.evaluate(model).tolist()
    for sample, index in zip(task.samples(model, [3, 0]), (3, 0), strict=True):
        assert sample.index == index
        assert sample.truth == ("cat", "dog")[task.groups[index]]
        assert sample.prediction == ("cat", "dog")[answers[index]]
        assert sample.right == right[index]
        # Values run from 0 to 29 over all images, so they are shown as value / 29.
        assert sample.image == pytest.approx(images[index] / 29)
    assert task.samples(model, []) == []


def test_rows_of_numbers_have_no_picture_unless_a_shape_is_given():
    model = random_model(Classify(X, Y, hidden=3))
    assert Classify(X, Y, hidden=3).samples(model, [0])[0].image is None
    shown = Classify(X, Y, hidden=3, image_shape=(1, 2)).samples(model, [1])[0]
    assert shown.image.tolist() == [[0.0, 1.0]]


def test_classes_and_groups_come_from_the_labels():
    task = Classify(X, [0, 3, 1, 0], hidden=2)
    assert task.classes == ("0", "1", "2", "3")
    assert task.groups.tolist() == [0, 3, 1, 0]
    assert np.isnan(task.held_out(random_model(task)))
    named = Classify(X, Y, hidden=2, classes=np.array(["no", "yes", "maybe"]))
    assert named.classes == ("no", "yes", "maybe")
    assert named.widths[-1] == 3


def test_scores_are_averaged_by_class(tiny):
    task = Classify(X, [0, 2, 2, 2], X, [2, 0, 0, 1], hidden=2)
    means = task.by_class([1, 1, 0, 0])
    assert list(means) == ["0", "1", "2"]
    assert list(means.values()) == pytest.approx([1, np.nan, 1 / 3], nan_ok=True)
    always_zero = torch.zeros(task.layout.size)
    assert task.held_out_by_class(always_zero) == {"0": 1.0, "1": 0.0, "2": 0.0}
    assert Classify(X, Y, hidden=2).held_out_by_class(None) == {}
    model = random_model(tiny)
    by_class = list(tiny.held_out_by_class(model).values())
    assert np.mean(by_class) == pytest.approx(tiny.held_out(model))  # classes of equal size


def test_yes_and_no_are_numbers_too():
    task = Classify(X > 0.5, Y, hidden=3)
    model = random_model(task)
    assert task.evaluate(model).tolist() == Classify(X, Y, hidden=3).evaluate(model).tolist()


@pytest.mark.parametrize("hidden", [6, np.int64(6), [6], (6,)])
def test_one_hidden_layer_may_be_given_as_a_number(hidden):
    assert Classify(X, Y, hidden=hidden).widths == (2, 6, 2)


def test_random_seeds_are_normal_with_the_given_deviation(digits):
    seeds = digits.random_seeds(3, rng=1)
    assert seeds.shape == (3, 19_210)
    assert seeds.dtype == np.float32
    assert seeds.std() == pytest.approx(0.01, rel=0.02)
    assert np.array_equal(seeds, digits.random_seeds(3, rng=1))
    assert not np.array_equal(seeds, digits.random_seeds(3, rng=2))
    assert digits.random_seeds(1, scale=0.5).std() == pytest.approx(0.5, rel=0.02)


def test_networks_and_an_evolvers_choices_do_not_share_random_numbers(tiny):
    # The natural first line gives both the same seed.
    choices = np.random.default_rng(0).normal(0.0, 0.01, (2, tiny.layout.size))
    assert not np.allclose(tiny.random_seeds(2, rng=0), choices)


def test_trained_seeds_know_their_own_digits_only(digits):
    seeds = digits.trained_seeds(rng=0)
    assert seeds.shape == (2, 19_210)
    low = digits.groups < 5
    for seed, own in zip(seeds, (low, ~low), strict=True):
        right = digits.evaluate(torch.from_numpy(seed))
        assert right[own].mean() > 0.9
        assert right[~own].mean() < 0.02
        assert 0.4 < digits.held_out(torch.from_numpy(seed)) < 0.5


def test_parts_are_named_by_number_or_name(tiny):
    x, y = tiny.training
    task = Classify(x.numpy(), y.numpy(), hidden=6, classes=("a", "b", "c", "d"))
    by_name = task.trained_seeds([("a",), ("d", "b")], steps=3)
    by_number = task.trained_seeds([(0,), (1, 3)], steps=3)
    assert np.array_equal(by_name, by_number)
    three = task.trained_seeds([(0,), (1,), (2, 3)], steps=300, rate=0.02)
    for seed, own in zip(three, ([0], [1], [2, 3]), strict=True):
        right = task.evaluate(torch.from_numpy(seed))
        assert right[np.isin(task.groups, own)].mean() > 0.9


def test_specialists_can_be_trained_from_given_networks(tiny):
    start = tiny.random_seeds(2, rng=9)
    assert np.array_equal(tiny.trained_seeds(rng=4, steps=0, start=start), start)
    same = tiny.trained_seeds(rng=9)
    assert np.array_equal(tiny.trained_seeds(rng=4, start=start), same)
    with pytest.raises(InputError, match=r"shape \(2, 82\), got shape \(1, 82\);"):
        tiny.trained_seeds(start=start[:1])


def test_untrained_seeds_are_the_random_ones(tiny):
    assert np.array_equal(tiny.trained_seeds(rng=4, steps=0), tiny.random_seeds(2, rng=4))


# -- bad input ------------------------------------------------------------------------------------


def function_task(points=3, answer=lambda _, at: at > 0, **known):
    return from_function(answer, points, **known)


NAN_ROW = np.where(np.arange(8).reshape(4, 2) == 5, np.nan, X)
BAD = {
    "no points": (lambda _: function_task(0), "points must be .* >= 1, got 0"),
    "half a point": (lambda _: function_task(2.5), "points must be an integer .* got 2.5"),
    "few groups": (lambda _: function_task(groups=[0, 0]), "groups .* each of the 3 .* got 2"),
    "many names": (lambda _: function_task(names=list("abcd")), "names .* the 3 .* got 4"),
    "no names": (lambda _: function_task(names=[]), "names .* each of the 3 .* got 0"),
    "unknown group": (lambda _: function_task(groups=[0, 1, 0]), r"groups .* \[0, 0\] .* \[0, 1\]"),
    "groups as text": (lambda _: function_task(groups=list("abc")), "groups must"),
    "groups of floats": (lambda _: function_task(groups=[0, 0.5, 0]), "groups must"),
    "answer too short": (
        lambda _: function_task(answer=lambda _, __: [1]).evaluate(None),
        r"'task' must give one score .* \(3,\), got shape \(1,\)",
    ),
    "index above": (lambda t: t.evaluate(None, [60]), r"in \[0, 59\], got \[60\]"),
    "index below": (lambda t: t.evaluate(None, [-1]), r"in \[0, 59\], got \[-1\]"),
    "index of floats": (lambda t: t.evaluate(None, [0.5]), r"in \[0, 59\], got \[0.5\]"),
    "a mask": (lambda t: t.evaluate(None, [True, False]), r"in \[0, 59\], got .*True"),
    "one index": (lambda t: t.samples(None, 3), "list of data points .* got 3"),
    "one axis": (lambda _: Classify(X[0], Y), r"\(points, features\) .* got \(2,\) and \(4,\);"),
    "few labels": (lambda _: Classify(X, Y[:3]), r"\(points,\), got \(4, 2\) and \(3,\);"),
    "no data": (lambda _: Classify(X[:0], Y[:0]), r"got \(0, 2\) and \(0,\);"),
    "ragged data": (lambda _: Classify([[1], [1, 2]], [0, 1]), "X must"),
    "NaN in data": (lambda _: Classify(NAN_ROW, Y), "X must hold finite .* NaN or Inf in row 2"),
    "data as text": (lambda _: Classify([["a"]] * 4, Y), "finite numbers, got a text or object"),
    "labels of floats": (
        lambda _: Classify(X, Y + 0.5),
        "y must hold .* got float64 .*0.5",
    ),
    "labels as text": (lambda _: Classify(X, list("abba")), "y must hold classes as integers"),
    "labels None": (lambda _: Classify(X, [None] * 4), "y must hold classes as integers"),
    "negative labels": (lambda _: Classify(X, Y - 1), "y must hold .* >= 0, got int64 .* -1"),
    "NaN in test": (lambda _: Classify(X, Y, NAN_ROW, Y), "X_test must hold finite .* row 2"),
    "wide test": (lambda _: Classify(X, Y, np.ones((4, 3)), Y), "2 numbers a row .* got 3 numbers"),
    "new class": (lambda _: Classify(X, Y, X, Y + 1), "classes below 2 .* and class 2;"),
    "test without labels": (lambda _: Classify(X, Y, X), "y_test"),
    "test without data": (lambda _: Classify(X, Y, y_test=Y), "X_test"),
    "few classes": (lambda _: Classify(X, Y, classes=["a"]), r"there are 1 classes.* got \[0, 1\]"),
    "image shape": (
        lambda _: Classify(X, Y, image_shape=(2, 2)),
        r"2 numbers .* got \(2, 2\);",
    ),
    "no width": (lambda _: Classify(X, Y, hidden=0), "hidden must be .* >= 1, got 0"),
    "half a width": (lambda _: Classify(X, Y, hidden=2.5), "hidden must be .* got 2.5"),
    "width as text": (lambda _: Classify(X, Y, hidden=[2, "x"]), "hidden must .* got 'x'"),
    "device": (lambda _: Classify(X, Y, device="gpu"), "'cpu' or 'cuda', got 'gpu'"),
    "no seeds": (lambda t: t.random_seeds(0), "count must be .* >= 1, got 0"),
    "scale": (lambda t: t.random_seeds(2, scale=-1), "scale must be .* got -1"),
    "unknown class": (lambda t: t.trained_seeds([["7"]]), r"among 0, 1, 2, 3, got \['7'\];"),
    "a bare class": (lambda t: t.trained_seeds([0, 1]), "part must be a list of classes, got 0;"),
    "an empty part": (lambda t: t.trained_seeds([[], [1]]), r"part must name .* got \[\];"),
    "negative steps": (lambda t: t.trained_seeds(steps=-1), "steps must be .* got -1"),
    "NaN rate": (lambda t: t.trained_seeds(rate=np.nan), "rate must be .* got nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_a_sentence(case, tiny):
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call(tiny)
