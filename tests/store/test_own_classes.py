"""Searches by custom classes come back as themselves, or a sentence says what to give."""

import contextlib
import importlib
import json
import sqlite3
import sys

import numpy as np
import pytest
import torch
from helpers.stores import change, same, same_archive
from safetensors.torch import save_file

from m2n2lab import (
    Archive,
    CheckpointSpace,
    DenseSpace,
    Evolver,
    load_archive,
    make_evolver,
    save_archive,
    store,
    tasks,
)
from m2n2lab.core.methods.brute_force import BruteForce
from m2n2lab.core.methods.cma_es import CmaEs
from m2n2lab.core.methods.m2n2_plus import Plus
from m2n2lab.core.methods.map_elites import MapElites
from m2n2lab.core.methods.registry import METHODS, Method
from m2n2lab.core.records import Proposal
from m2n2lab.store.schema import StoreError
from m2n2lab.utils.class_paths import class_path, loaded_class

SEEDS = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
POINTS = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))


def line(a, b, mix):
    return (1 - mix) * a.values + mix * b.values


class Lerp(Evolver):
    """Merges by a straight line, under the inherited name."""

    def merge(self, a, b, split, mix):
        return self.space.genome(line(a, b, mix))


class Biased(Lerp):
    """A second level, with an option of its own."""

    def __init__(self, task, seeds, *, bias=0.0, **options):
        super().__init__(task, seeds, **options)
        self.bias = bias
        self.options["bias"] = bias

    def merge(self, a, b, split, mix):
        return super().merge(a, b, split, mix ** (1 + self.bias))


class Positional(Lerp):
    """An option that is not a keyword only."""

    def __init__(self, task, seeds, power=1.0, **options):
        super().__init__(task, seeds, **options)
        self.power = power
        self.options["power"] = power

    def merge(self, a, b, split, mix):
        return super().merge(a, b, split, mix**self.power)


class LerpGrid(MapElites):
    merge = Lerp.merge


class LerpPlus(Plus):
    merge = Lerp.merge


class Narrow(CmaEs):
    """CMA-ES in a box."""

    def _solution(self, proposal):
        return np.clip(super()._solution(proposal), -1.0, 1.0)


class Crowd(Archive):
    """Members compete harder on the first half of the data points."""

    def _weigh(self, z, scores, graded):
        weights = super()._weigh(z, scores, graded)
        weights[: len(weights) // 2] *= 0.5
        return weights


class Crowded(Evolver):
    method = "crowded"

    def _new_archive(self, size, alpha, capacity):
        return Crowd(self.task.points, size, alpha, capacity, self.task.shares)


class Adaptive(Evolver):
    """Remembers the scores of all children, and merges accordingly."""

    tilt = 0.0

    def tell(self, child, scores=None, *, genome=None):
        generation = super().tell(child, scores, genome=genome)
        self.tilt += generation.verdict.score
        return generation

    def _draw(self, *numbers):
        drawn = super()._draw(*numbers)
        return Proposal(drawn.parents, drawn.split, (drawn.mix + self.tilt) % 1.0, drawn.seed)


class LerpSpace(DenseSpace):
    def merge(self, a, b, split, mix):
        return self.genome(line(a, b, mix))


class NarrowSpace(LerpSpace):
    def merge(self, a, b, split, mix):
        return super().merge(a, b, split, mix / 2)


class ScaledSpace(DenseSpace):
    """Takes an argument that no store knows."""

    def __init__(self, seeds, scale):
        super().__init__(seeds)
        self.scale = scale

    def merge(self, a, b, split, mix):
        return self.genome(self.scale * line(a, b, mix))


class Bare(CheckpointSpace):
    """Gives tasks the recipe, so that no module is needed."""

    def materialise(self, genome):
        return genome


class Wiggly(Bare):
    """A mix for each tensor."""

    def merge(self, a, b, split, mix):
        edges = self.layout.offsets
        mixes = np.clip(mix + np.linspace(-0.2, 0.2, len(edges) - 1), 0, 1)
        return self.merge_stretches(a, b, edges, mixes)


@pytest.fixture(scope="module")
def task():
    return tasks.from_function(lambda model, at: POINTS[at] @ model > 0.3, 40, name="half-spaces")


OWN = {
    Lerp: {},
    Biased: {"bias": 0.5},
    Positional: {"power": 2.0},
    LerpGrid: {"archive_size": 9},
    LerpPlus: {"decay": 0.1},
    Narrow: {"population": 7, "sigma0": 0.3},
    Crowded: {},
    Adaptive: {},
}


def make(kind, task, seeds=SEEDS, **options):
    options = {"archive_size": 5, "mutation": 0.2, "rng": 3} | OWN.get(kind, {}) | options
    return kind(task, seeds, **options)


def forget_classes(path):
    """Make a store as an earlier version wrote it, which did not record classes."""
    with contextlib.closing(sqlite3.connect(path)) as file:
        found = file.execute("SELECT run, options, space FROM runs").fetchall()
    for run, options, space in found:
        old, place = json.loads(options), json.loads(space)
        del old["class"], place["class"]
        new = json.dumps(old), json.dumps(place), run
        change(path, "UPDATE runs SET options = ?, space = ? WHERE run = ?", *new)


# -- evolvers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OWN)
def test_a_search_by_a_custom_class_comes_back_as_that_class_bit_for_bit(kind, task, db):
    whole = make(kind, task).run(80)
    make(kind, task).run(45, store=db)
    for resume in (Evolver.resume, kind.resume, store.resume):
        assert type(resume(db, task=task)) is kind
    resumed = store.resume(db, task=task).run(35, store=db)
    branched = store.branch(db, step=20, task=task)
    assert type(branched) is kind
    branched.run(60)
    for other in (resumed, branched):
        assert other.options == whole.options
        assert np.array_equal(whole.records.table(), other.records.table(), equal_nan=True)
        assert same_archive(whole.archive, other.archive)
        for mine, its in zip(whole.archive.members, other.archive.members, strict=True):
            assert np.array_equal(mine.genome.values, its.genome.values)
    verdicts = [evolver.step().verdict for evolver in (whole, resumed, branched)]
    assert verdicts[0] == verdicts[1] == verdicts[2]


@pytest.mark.parametrize("kind", OWN)
def test_a_search_by_a_custom_class_is_replayed_with_its_own_fitness(kind, task, db):
    evolver = make(kind, task).run(45, store=db)
    assert same_archive(evolver.archive, store.replay(db))
    assert type(store.replay(db)) is (Crowd if kind is Crowded else Archive)


@pytest.mark.parametrize("kind", [Lerp, LerpGrid])
def test_the_archive_of_a_custom_class_is_exported_and_loaded_exactly(kind, task, tmp_path):
    evolver = make(kind, task).run(40)
    save_archive(evolver, tmp_path / "archive.safetensors")
    saved = load_archive(tmp_path / "archive.safetensors")
    for vector, member in zip(saved.models, evolver.archive.members, strict=True):
        assert np.array_equal(vector, member.genome.values)
    assert np.array_equal(saved.fitness, evolver.archive.fitness)


def test_a_class_of_a_function_is_resumed_through_itself_only(task, db):
    class Local(Lerp):
        pass

    whole = make(Local, task).run(60)
    make(Local, task).run(40, store=db)
    with pytest.raises(StoreError, match=r"class Local of a script, .*Local\.resume\(…\) or kind="):
        Evolver.resume(db, task=task)
    with pytest.raises(StoreError, match=r"must be of the class Local .*, got Plus"):
        Plus.resume(db, task=task)
    for resumed in (Local.resume(db, task=task), store.resume(db, task=task, kind=Local)):
        assert type(resumed) is Local
        assert same(whole, resumed.run(20))
    assert same(whole, store.branch(db, step=11, task=task, kind=Local).run(49))


def test_a_name_given_to_a_search_is_kept(task, db):
    make(Lerp, task, method="mine").run(20, store=db)
    make(Evolver, task, method="other").run(20, store=db)
    first, second = (store.resume(db, run, task=task) for run in (1, 2))
    assert (type(first), first.method) == (Lerp, "mine")
    assert (type(second), second.method) == (Evolver, "other")


def test_a_registered_class_is_found_by_the_registry(task, db, monkeypatch):
    class Registered(Lerp):
        pass

    monkeypatch.setitem(METHODS, "lerp-one", Method(Registered, {"split_point": False}, "…"))
    whole, half = (make_evolver("lerp-one", task, SEEDS, rng=1) for _ in range(2))
    whole.run(50)
    half.run(30, store=db)
    resumed = Evolver.resume(db, task=task)
    assert (type(resumed), resumed.method) == (Registered, "lerp-one")
    assert same(whole, resumed.run(20))


@pytest.mark.parametrize(
    ("kind", "other"), [(Evolver, Plus), (Evolver, MapElites), (Lerp, Plus), (Biased, LerpGrid)]
)
def test_another_class_is_refused(kind, other, task, db):
    make(kind, task).run(20, store=db)
    name = kind.__name__
    with pytest.raises(StoreError, match=rf"be a {name}, got {other.__name__}; .* kind={name}"):
        other.resume(db, task=task)


def test_a_subclass_of_the_class_is_taken_if_it_merges_as_recorded(task, db):
    class Quiet(Evolver):
        def __repr__(self):
            return "quiet"

    make(Evolver, task).run(30, store=db)
    assert type(Quiet.resume(db, task=task)) is Quiet
    with pytest.raises(StoreError, match=r"bred again by Lerp in a DenseSpace, differs .*kind="):
        Lerp.resume(db, task=task)


def test_a_run_of_an_earlier_version_is_checked_by_what_it_merged(task, db):
    whole = make(Lerp, task).run(60)
    make(Lerp, task).run(40, store=db)
    forget_classes(db)
    with pytest.raises(StoreError, match="bred again by Evolver in a DenseSpace, differs"):
        Evolver.resume(db, task=task)
    resumed = Lerp.resume(db, task=task)
    assert type(resumed) is Lerp
    assert same(whole, resumed.run(20))


def test_a_run_of_an_earlier_version_from_the_middle_of_a_search_is_checked_too(task, db):
    make(Lerp, task).run(20).run(40, store=db)
    forget_classes(db)
    with pytest.raises(StoreError, match="bred again by Evolver in a DenseSpace, differs"):
        Evolver.resume(db, task=task)
    assert Lerp.resume(db, task=task).generation == 60
    assert type(store.branch(db, step=20, task=task, kind=Lerp)) is Lerp


def test_a_run_without_a_member_that_can_be_bred_again_is_resumed_as_before(task, db):
    evolver = make(Evolver, task)
    with store.record(evolver, db):
        evolver.tell(np.zeros(8, np.float32), np.ones(40, bool))
    forget_classes(db)
    assert same(evolver, Evolver.resume(db, task=task))


def test_a_module_that_is_not_imported_stays_so(task, db, tmp_path, monkeypatch):
    (tmp_path / "own_method.py").write_text(
        "from m2n2lab import Evolver\nclass Flat(Evolver):\n"
        "    def merge(self, a, b, split, mix):\n"
        "        return self.space.genome((a.values + b.values) / 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("own_method")
    make(own.Flat, task).run(30, store=db)
    monkeypatch.delitem(sys.modules, "own_method")
    with pytest.raises(
        StoreError, match=r"the class Flat of own_method, got Evolver; import own_method first"
    ):
        Evolver.resume(db, task=task)
    assert "own_method" not in sys.modules
    again = importlib.import_module("own_method")
    assert again.Flat is not own.Flat
    assert type(Evolver.resume(db, task=task)) is again.Flat


def test_a_class_that_has_moved_is_taken_if_it_merges_as_recorded(task, db, monkeypatch):
    class Crooked(Evolver):
        """M2N2 itself, under a name of its own."""

    with monkeypatch.context() as before:
        before.setattr(Lerp, "__module__", "gone")
        make(Lerp, task).run(30, store=db)
    assert type(Lerp.resume(db, task=task)) is Lerp
    with pytest.raises(StoreError, match="bred again by Crooked in a DenseSpace, differs"):
        Crooked.resume(db, task=task)


def test_a_method_that_is_repeated_must_take_the_recorded_course(task, db, monkeypatch):
    make(Narrow, task).run(45, store=db)
    monkeypatch.setattr(Narrow, "_solution", CmaEs._solution)
    with pytest.raises(StoreError, match=r"Step \d+ of run 1, taken again, .* Narrow has changed"):
        Evolver.resume(db, task=task)


# -- options -----------------------------------------------------------------------------------


class Forgetful(Lerp):
    """Leaves its option out of ``options``."""

    def __init__(self, task, seeds, *, power=1.0, **options):
        super().__init__(task, seeds, **options)
        self.power = power

    def merge(self, a, b, split, mix):
        return super().merge(a, b, split, mix**self.power)


class Shaped(Forgetful):
    """Has a function among its options."""

    def __init__(self, task, seeds, *, shape=abs, **options):
        super().__init__(task, seeds, **options)
        self.options |= {"shape": shape, "power": self.power}

    def merge(self, a, b, split, mix):
        return super().merge(a, b, split, self.options["shape"](mix))


class Fixed(Evolver):
    def __init__(self, task, seeds, **options):
        super().__init__(task, seeds, split_point=False, **options)


class Stubborn(Evolver):
    def __init__(self, task, seeds, **options):
        super().__init__(task, seeds, **{**options, "alpha": options.get("alpha", 0.5) + 0.1})


def test_options_that_are_not_recorded_must_be_given(task, db):
    whole = make(Forgetful, task, power=3.0).run(50)
    make(Forgetful, task, power=3.0).run(30, store=db)
    with pytest.raises(StoreError, match=r"Option power .* options=\{'power': …\}"):
        Evolver.resume(db, task=task)
    with pytest.raises(StoreError, match=r"not in the store \(power\), got 'rng'"):
        Evolver.resume(db, task=task, options={"power": 3.0, "rng": 1})
    assert same(whole, Evolver.resume(db, task=task, options={"power": 3.0}).run(20))


def test_a_function_among_the_options_must_be_given(task, db):
    options = {"shape": np.sqrt, "power": 2}
    whole = make(Shaped, task, **options).run(50)
    make(Shaped, task, **options).run(30, store=db)
    with pytest.raises(StoreError, match=r"Option shape .* options=\{'shape': …\}"):
        Evolver.resume(db, task=task)
    assert same(whole, Evolver.resume(db, task=task, options={"shape": np.sqrt}).run(20))
    assert same(whole, store.branch(db, 1, 9, task=task, options={"shape": np.sqrt}).run(41))


def test_options_of_numpy_are_recorded_as_numbers(task, db):
    options = {"archive_size": np.int64(5), "alpha": np.float32(0.5), "rng": np.int64(2)}
    whole = make(Evolver, task, **options).run(50)
    make(Evolver, task, **options).run(30, store=db)
    assert same(whole, Evolver.resume(db, task=task).run(20))


def test_a_constructor_that_does_not_take_the_recorded_options_is_named(task, db):
    make(Fixed, task).run(20, store=db)
    with pytest.raises(StoreError, match=r"Fixed must take .* multiple values .*be defaults"):
        Evolver.resume(db, task=task)
    make(Stubborn, task).run(20, store=db)
    with pytest.raises(StoreError, match=r"Stubborn must keep the run's option alpha=0\.6, got"):
        Evolver.resume(db, task=task)


# -- spaces ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LerpSpace, NarrowSpace])
def test_a_search_in_a_custom_space_comes_back_in_that_space_bit_for_bit(kind, task, db):
    whole = make(Evolver, task, kind(SEEDS)).run(60)
    make(Evolver, task, kind(SEEDS)).run(40, store=db)
    for seeds in (None, SEEDS, kind(SEEDS)):
        resumed = Evolver.resume(db, task=task, seeds=seeds)
        assert type(resumed.space) is kind
        assert same(whole, resumed.run(20))
        assert same(whole, store.branch(db, step=13, task=task, seeds=seeds).run(47))


def test_another_space_is_refused(task, db):
    make(Evolver, task, NarrowSpace(SEEDS)).run(40, store=db)
    for other in (DenseSpace(SEEDS), LerpSpace(SEEDS)):
        name = type(other).__name__
        with pytest.raises(StoreError, match=f"be a NarrowSpace, got a {name}; give the space"):
            Evolver.resume(db, task=task, seeds=other)
    make(Evolver, task).run(40, store=db)
    with pytest.raises(StoreError, match="bred again by Evolver in a LerpSpace, differs"):
        Evolver.resume(db, task=task, seeds=LerpSpace(SEEDS))


def test_a_space_with_arguments_of_its_own_must_be_given(task, db):
    whole = make(Evolver, task, ScaledSpace(SEEDS, 1.1)).run(60)
    make(Evolver, task, ScaledSpace(SEEDS, 1.1)).run(40, store=db)
    for seeds in (None, SEEDS):
        with pytest.raises(StoreError, match=r"arguments of ScaledSpace .* the space itself, not"):
            Evolver.resume(db, task=task, seeds=seeds)
    assert same(whole, Evolver.resume(db, task=task, seeds=ScaledSpace(SEEDS, 1.1)).run(20))


def test_a_space_of_a_function_must_be_given(task, db):
    class Local(LerpSpace):
        pass

    make(Evolver, task, Local(SEEDS)).run(40, store=db)
    for seeds in (None, SEEDS):
        with pytest.raises(StoreError, match=r"class Local of a script, .* not a list, as seeds="):
            Evolver.resume(db, task=task, seeds=seeds)
    assert type(Evolver.resume(db, task=task, seeds=Local(SEEDS)).space) is Local


def test_a_custom_space_of_an_earlier_version_must_be_given(task, db):
    make(Evolver, task, LerpSpace(SEEDS)).run(40, store=db)
    forget_classes(db)
    for seeds in (None, SEEDS):
        with pytest.raises(StoreError, match="of a custom class; give the space itself"):
            Evolver.resume(db, task=task, seeds=seeds)
    with pytest.raises(StoreError, match="must be a custom space, got a DenseSpace"):
        Evolver.resume(db, task=task, seeds=DenseSpace(SEEDS))
    with pytest.raises(StoreError, match="in a NarrowSpace, differs"):
        Evolver.resume(db, task=task, seeds=NarrowSpace(SEEDS))
    assert type(Evolver.resume(db, task=task, seeds=LerpSpace(SEEDS)).space) is LerpSpace


def test_a_custom_space_of_modules_is_made_from_the_modules(db):
    torch.manual_seed(0)
    models = [torch.nn.Linear(8, 3) for _ in range(2)]
    task = tasks.from_function(lambda model, at: model(POINTS[at]).argmax(1) == at % 3, 40)
    whole = Evolver(task, LerpSpace(models), mutation=0.1, archive_size=5).run(60)
    Evolver(task, LerpSpace(models), mutation=0.1, archive_size=5).run(40, store=db)
    with pytest.raises(StoreError, match="give the seeds as seeds="):
        Evolver.resume(db, task=task)
    for seeds in (models, LerpSpace(models)):
        resumed = Evolver.resume(db, task=task, seeds=seeds)
        assert type(resumed.space) is LerpSpace
        assert same(whole, resumed.run(20))
    with pytest.raises(StoreError, match="must be a LerpSpace, got a DenseSpace"):
        Evolver.resume(db, task=task, seeds=DenseSpace(models))


@pytest.fixture
def layers(here):
    """Two checkpoints of two tensors each."""
    for k, name in enumerate("ab"):
        torch.manual_seed(k)
        save_file(torch.nn.Linear(8, 5).state_dict(), f"{name}.safetensors")
    return "a.safetensors", "b.safetensors"


def judged(evolver, steps):
    """Take steps whose scores depend on the recipe alone."""
    for _ in range(steps):
        proposal = evolver.ask()
        recipe = evolver.breed(proposal)
        evolver.tell(proposal, (recipe.coef.sum() * np.arange(1, 21)) % 1 < 0.5, genome=recipe)
    return evolver


def among_checkpoints(layers, kind=Wiggly):
    even = tasks.from_function(lambda model, at: at % 2 == 0, 20, name="even")
    return even, Evolver(even, kind(*layers), archive_size=5, known=np.eye(2, 20, dtype=bool))


def test_a_custom_space_of_checkpoints_comes_back_bit_for_bit(layers, db):
    even, half = among_checkpoints(layers)
    whole = judged(among_checkpoints(layers)[1], 60)
    with store.record(half, db):
        judged(half, 40)
    for seeds in (None, layers, Wiggly(*layers)):
        resumed = store.resume(db, task=even, seeds=seeds)
        assert type(resumed.space) is Wiggly
        assert judged(resumed, 20).archive.ids == whole.archive.ids
        for mine, its in zip(whole.archive.members, resumed.archive.members, strict=True):
            assert mine.genome == its.genome
    assert type(store.branch(db, step=17, task=even).space) is Wiggly
    with pytest.raises(StoreError, match="must be a Wiggly, got a Bare"):
        store.resume(db, task=even, seeds=Bare(*layers))


def test_a_module_of_a_custom_space_of_checkpoints_must_be_given(layers, db):
    task = tasks.from_function(lambda model, at: model.weight.flatten()[at] > 0, 20)

    class Modular(CheckpointSpace):
        merge = Wiggly.merge

    def space():
        return Modular(*layers, module=torch.nn.Linear(8, 5))

    whole = Evolver(task, space(), archive_size=5).run(30)
    Evolver(task, space(), archive_size=5).run(20, store=db)
    with pytest.raises(StoreError, match="class Modular of a script"):
        store.resume(db, task=task, seeds=layers)
    assert same(whole, store.resume(db, task=task, seeds=space()).run(10))


def test_checkpoints_of_an_earlier_version_are_checked_by_what_they_merged(layers, db):
    even, evolver = among_checkpoints(layers)
    with store.record(evolver, db):
        judged(evolver, 40)
    forget_classes(db)
    plain = CheckpointSpace(*layers)
    plain.materialise = lambda recipe: recipe
    for space in (Bare(*layers), plain):
        name = type(space).__name__
        with pytest.raises(StoreError, match=f"bred again by Evolver in a {name}, differs"):
            store.resume(db, task=even, seeds=space)
    assert type(store.resume(db, task=even, seeds=Wiggly(*layers)).space) is Wiggly


def test_a_space_with_other_merge_options_is_refused(layers, db):
    even, evolver = among_checkpoints(layers, Bare)
    with store.record(evolver, db):
        judged(evolver, 10)
    other = Bare(*layers, granularity="tensor")
    with pytest.raises(StoreError, match="must have granularity='model', got 'tensor'"):
        store.resume(db, task=even, seeds=other)


# -- archives and paths ------------------------------------------------------------------------


class Sized(Crowd):
    def __init__(self, points):
        super().__init__(points, 5)


class SizedSearch(Evolver):
    method = "sized"

    def _new_archive(self, size, alpha, capacity):
        return Sized(self.task.points)


def test_an_archive_with_arguments_of_its_own_is_replayed_by_a_branch(task, db):
    whole = make(SizedSearch, task).run(30, store=db)
    with pytest.raises(StoreError, match=r"class Sized, which .* use branch\(…\)\.archive"):
        store.replay(db, step=20)
    assert same_archive(whole.archive, store.branch(db, task=task).archive)


def test_a_path_finds_classes_of_imported_modules_only(monkeypatch):
    assert class_path(Lerp) == f"{__name__}:Lerp"
    assert loaded_class(class_path(Lerp)) is Lerp
    assert class_path(BruteForce) == "m2n2lab:BruteForce"

    class Lazy(type(sys)):
        def __getattr__(self, name):
            raise AssertionError("called")

    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    monkeypatch.setattr(sys.modules["__main__"], "Lerp", Lerp, raising=False)
    for path in ("lazy:Lerp", "os:system", "no.such:Lerp", "__main__:Lerp", "os:", ":", "", "os"):
        assert loaded_class(path) is None
