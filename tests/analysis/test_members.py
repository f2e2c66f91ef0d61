import numpy as np
import pytest

from m2n2lab import Evolver, InputError
from m2n2lab.analysis.lineage import BINS, Lineage
from m2n2lab.analysis.members import member_page, members_data
from m2n2lab.tasks import Sample, from_function


@pytest.fixture
def observed(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    return evolver.run(150), lineage


def test_the_table_of_members_is_sorted_by_fitness(observed, tiny):
    evolver, lineage = observed
    archive = evolver.archive
    data = members_data(archive, tiny, lineage)
    assert set(data.ids) == set(archive.ids)
    assert (np.diff(data.fitness) <= 0).all()
    scores = dict(zip(archive.ids, archive.scores, strict=True))
    for k, id in enumerate(data.ids):
        others = sum(scores[other] for other in data.ids if other != id)
        assert data.alone[k] == ((scores[id] > 0) & (others == 0)).mean()
        assert data.accuracy[k].tolist() == list(tiny.by_class(scores[id]).values())
        assert (data.score[k], data.parents[k]) == (archive[id].score, archive[id].parents)
    assert data.painting.shape == (6, BINS, 3)
    assert data.classes == ("0", "1", "2", "3")


def test_a_page_has_the_accuracy_and_samples_of_a_member(observed, tiny):
    evolver, lineage = observed
    best = evolver.best
    page = member_page(evolver, lineage, best.id)
    right = evolver.archive.scores[evolver.archive.ids.index(best.id)]
    assert page.confusion.sum() == 60
    assert np.trace(page.confusion) == right.sum()
    np.testing.assert_array_equal(page.confusion.sum(axis=1), np.bincount(tiny.groups))
    np.testing.assert_allclose(page.accuracy, np.diag(page.confusion) / 15)
    model = evolver.space.materialise(best.genome)
    assert dict(zip(page.classes, page.held_out, strict=True)) == tiny.held_out_by_class(model)
    assert all(sample.right for sample in page.right)
    assert not any(sample.right for sample in page.wrong)
    assert len(page.right) == 12
    some = {name for name, accuracy in zip("0123", page.accuracy, strict=True) if accuracy}
    assert {sample.truth for sample in page.right} == some
    assert page.rank == 1 + (evolver.archive.fitness > page.fitness).sum()
    assert page.of == 6


def test_the_page_of_a_displaced_member_has_no_scores(observed):
    evolver, lineage = observed
    dead = next(id for id in lineage.column("id").tolist() if id not in evolver.archive)
    page = member_page(evolver, lineage, dead)
    assert not page.alive
    assert page.life.died > 0
    assert (page.fitness, page.accuracy, page.confusion, page.right) == (None, None, None, ())
    np.testing.assert_allclose(page.painting.sum(axis=1), 1.0)
    with pytest.raises(InputError, match="never a member 10000"):
        member_page(evolver, lineage, 10_000)


def test_answers_that_are_no_classes_give_no_confusion():
    asked = []

    def samples(model, where):
        asked.append(len(where))
        return [Sample(int(k), "12", "13", False, text="1 + 11?") for k in where]

    task = from_function(
        lambda model, where: where % 2 == 0, 50, samples=samples, classes="ab", groups=[0, 1] * 25
    )
    evolver = Evolver(task, np.eye(2, 5), archive_size=3, mutation=0.1)
    page = member_page(evolver, Lineage(evolver), 0)
    assert page.confusion is None
    assert page.held_out is None
    assert asked == [12, 12]  # and not all fifty, which may be slow
    plain = Evolver(from_function(lambda model, where: where > 0, 5), np.eye(2, 5))
    page = member_page(plain, Lineage(plain), 1)
    assert (page.confusion, page.right, page.wrong) == (None, (), ())
