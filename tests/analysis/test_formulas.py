"""Equations with their numbers: those of the search itself."""

from dataclasses import replace

import numpy as np
import pytest
from m2n2lab.widgets.html.formulas import PARTS, formulas_html, number

from m2n2lab import CheckpointSpace, Evolver, tasks
from m2n2lab.analysis.formulas import formula_data


def searched(task, seeds, steps=60, **options):
    evolver = Evolver(task, seeds, **{"archive_size": 6, "rng": 1} | options)
    evolver.run(steps)
    return evolver


def explained(evolver, index=None, point=None, mix=0.3, split=30):
    """Return the equations of the two fittest, with their genomes and the child's scores."""
    ids = sorted(evolver.archive.ids, key=lambda each: -evolver.archive[each].score)[:2]
    proposal = evolver.ask(parents=tuple(ids), split=split, mix=mix)
    genomes = [*(evolver.archive[id].genome for id in ids), evolver.breed(proposal)]
    child = evolver.evaluate(proposal)
    return formula_data(evolver, proposal, genomes, child, index, point), genomes, child


@pytest.mark.parametrize("index", [0, 29, 30, 81])
@pytest.mark.parametrize("mutation", [0.0, 0.05])
def test_a_weight_is_the_sum_that_its_equation_says(tiny, tiny_seeds, index, mutation):
    evolver = searched(tiny, tiny_seeds, mutation=mutation)
    data, (a, b, child), _ = explained(evolver, index)
    weight = data.weight
    assert weight.t == pytest.approx(0.3 if index < 30 else 0.7)
    assert (weight.a, weight.b) == ((a.values[index],), (b.values[index],))
    assert weight.child == (child.values[index],)
    of_a = np.sin((1 - weight.t) * weight.omega) / np.sin(weight.omega)
    of_b = np.sin(weight.t * weight.omega) / np.sin(weight.omega)
    assert weight.factors == pytest.approx((of_a, of_b))
    assert weight.merged[0] == pytest.approx(of_a * weight.a[0] + of_b * weight.b[0])
    assert (weight.merged[0] == pytest.approx(weight.child[0], abs=1e-6)) == (mutation == 0.0)
    html = formulas_html(data)
    assert f'formula-weight">{number(weight.child[0])}<' in html
    assert ("of mutation" in html) == (mutation > 0.0)


def test_without_a_wish_the_weight_before_the_split_and_the_richest_point_are_shown(
    tiny, tiny_seeds
):
    data, _, _ = explained(searched(tiny, tiny_seeds))
    assert data.weight.index == 29
    assert data.point.here > 0.0
    assert (data.size, data.points) == (82, 60)
    beyond, _, _ = explained(searched(tiny, tiny_seeds), index=10**9, point=10**9)
    assert (beyond.weight.index, beyond.point.point) == (81, 59)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_point_pays_what_competition_counts_and_adds_to_attraction_what_mates_are_drawn_by(
    tiny, tiny_seeds, alpha
):
    evolver = searched(tiny, tiny_seeds, alpha=alpha)
    archive = evolver.archive
    for point in range(0, 60, 7):
        data = explained(evolver, point=point)[0].point
        assert data.weight == archive.weights[point]
        assert data.z == archive.z[point]
        if data.z:
            assert data.capacity / data.z**data.alpha == pytest.approx(data.weight)
        assert data.capacity == pytest.approx(1.0)
        assert data.fitness == tuple(archive.fitness)
    row, column = (archive.ids.index(id) for id in data.parents)
    attraction = archive.attraction()[row, column]
    assert data.attraction == pytest.approx(attraction)
    everywhere = [explained(evolver, point=point)[0].point.here for point in range(60)]
    assert sum(everywhere) == pytest.approx(attraction)
    assert np.count_nonzero(everywhere) == data.gains


def odd(seed=0):
    """A task on any model."""
    return tasks.from_function(lambda model, i: np.asarray(i) % 3 == seed, 12)


def test_a_recipe_s_weight_is_given_in_shares_of_the_seeds(models):
    space = CheckpointSpace(models / "a", models / "b")
    data, (_, _, child), _ = explained(searched(odd(), space, 8, mutation=0.0), 40)
    assert data.weight.terms == ("a", "b")
    assert data.weight.child == tuple(child.at(40))
    assert data.weight.merged == pytest.approx(data.weight.child)
    assert "A recipe: the weight is a sum of the seeds’" in formulas_html(data)


@pytest.mark.parametrize(
    "options", [{"crossover": "lerp"}, {"groups": {"first": "W1", "rest": "*"}}]
)
def test_what_has_no_single_equation_is_said_and_its_numbers_are_shown(tiny, tiny_seeds, options):
    data, _, _ = explained(searched(tiny, tiny.space(tiny_seeds), **options, mutation=0.0))
    assert data.weight.factors == ()
    html = formulas_html(data)
    assert "has no single equation" in html
    assert "sin(" not in html


def test_another_competition_is_named(tiny, tiny_seeds):
    data, _, _ = explained(searched(tiny, tiny_seeds, competition="range"))
    assert data.point.alpha is None
    assert "Range" in formulas_html(data, "point")


def test_a_parent_that_has_left_leaves_no_attraction(tiny, tiny_seeds):
    evolver = searched(tiny, tiny_seeds, steps=1)
    data, genomes, child = explained(evolver)
    proposal = evolver.ask(parents=data.point.parents, split=30, mix=0.3)
    evolver.run(200)
    gone = next(id for id in range(10**6) if id not in evolver.archive)
    proposal = replace(proposal, parents=(gone, evolver.archive.ids[0]))
    data = formula_data(evolver, proposal, genomes, child)
    assert data.point.attraction is None
    assert "has left the archive" in formulas_html(data)


def test_graded_scores_keep_their_capacity(tiny_seeds):
    draw = np.random.default_rng(0)
    goals = draw.normal(size=(20, 82))
    near = tasks.from_function(
        lambda w, i: np.exp(-np.abs(goals[i] @ w.numpy()) / 9), 20, graded=True
    )
    evolver = searched(near, tiny_seeds)
    data = explained(evolver, point=3)[0].point
    assert data.capacity == pytest.approx(evolver.archive.scores[:, 3].max())


@pytest.mark.parametrize("first", PARTS)
def test_the_part_that_was_asked_for_comes_first_and_hostile_names_are_text(
    tiny, tiny_seeds, first
):
    task = tasks.Classify(tiny.training[0], tiny.training[1], hidden=6, classes=["<img src=x>"] * 4)
    data, _, _ = explained(searched(task, tiny_seeds), point=0)
    html = formulas_html(data, first)
    titles = {"weight": "Weight 29", "point": "Data point 0", "pair": "Attraction of"}
    places = {part: html.index(f"<h3>{title}") for part, title in titles.items()}
    assert min(places, key=places.get) == first
    assert "<img" not in html


def test_numbers_have_a_real_minus_and_few_digits():
    assert [number(x) for x in (-0.03110, 0.5, 12345.6, float("nan"))] == [
        "−0.0311",
        "0.5",
        "12,346",
        "–",
    ]
