"""What a person may give in the wrong place: taken, or refused in a sentence."""

import copy
import pickle
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import nn

import m2n2lab as lab
from m2n2lab import Archive, CheckpointSpace, DenseSpace, Evolver, InputError, tasks

POINTS, SIZE = 12, 6
X = torch.randn(POINTS, SIZE, generator=torch.Generator().manual_seed(0))
VECTORS = np.random.default_rng(0).normal(size=(2, SIZE)).astype("f4")
TASK = tasks.from_function(lambda model, at: X[at] @ model > 0.3, points=POINTS)
MODULE_TASK = tasks.from_function(lambda net, at: net(X[at])[:, 0] > 0.1, points=POINTS)

ODD = {
    "none": None,
    "number": 2,
    "text": "a.safetensors",
    "list": [1, "a"],
    "mapping": {"weight": torch.ones(1, SIZE)},
    "function": lambda model, at: 1,
    "module": nn.Linear(SIZE, 1),
    "class": nn.Linear,
    "estimator": LogisticRegression(),
    "ragged": [[1, 2], [3]],
    "meta": torch.ones(SIZE, device="meta"),
    "task": TASK,
}


def search(**options):
    return Evolver(TASK, VECTORS, rng=0, **options)


def module_search(**options):
    return Evolver(MODULE_TASK, [net(0), net(1)], rng=0, **options)


def recorded():
    search().run(2, store="runs.db")
    return "runs.db"


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(SIZE, 1)


ENTRIES = {
    "Evolver task": lambda odd: Evolver(odd, VECTORS),
    "Evolver seeds": lambda odd: Evolver(TASK, odd),
    "Evolver seed": lambda odd: Evolver(MODULE_TASK, [odd, odd]),
    "known": lambda odd: odd is None or search(known=odd),
    "rng": lambda odd: Evolver(TASK, VECTORS, rng=odd),
    "device": lambda odd: odd is None or search(device=odd),
    "tell": lambda odd: search().tell(odd),
    "tell scores": lambda odd: odd is None or search().tell(VECTORS[0], odd),
    "verdict": lambda odd: search().verdict(odd),
    "breed": lambda odd: search().breed(odd),
    "evaluate": lambda odd: search().evaluate(odd),
    "check": lambda odd: search().check(odd),
    "put_back": lambda odd: search().put_back(odd),
    "until": lambda odd: odd is None or callable(odd) or search().run(1, until=odd),
    "executor": lambda odd: odd is None or search().run(1, executor=odd),
    "progress": lambda odd: search().run(0, progress=odd),
    "subscribe": lambda odd: callable(odd) or search().subscribe(odd),
    "load_state_dict": lambda odd: search().load_state_dict(odd),
    "checkpoint": lambda odd: CheckpointSpace(odd, odd),
    "function": lambda odd: callable(odd) or tasks.from_function(odd, points=3),
    "compare": lambda odd: lab.compare(odd),
    "compared": lambda odd: lab.compare({"a": odd}),
    "store": lambda odd: odd in (None, "a.safetensors") or search().run(0, store=odd),
    "load_archive": lambda odd: lab.load_archive(odd),
    "save_archive": lambda odd: lab.save_archive(odd, "a.safetensors"),
    "save_archive path": lambda odd: isinstance(odd, str) or lab.save_archive(search(), odd),
    "save": lambda odd: isinstance(odd, str) or search().best.save(odd),
    "record": lambda odd: lab.store.record(odd, "runs.db"),
    "record path": lambda odd: odd == "a.safetensors" or lab.store.record(search(), odd),
    "runs": lambda odd: lab.store.runs(odd),
    "resume": lambda odd: Evolver.resume(odd),
    "resume task": lambda odd: odd is None or Evolver.resume(recorded(), task=odd),
    "branch": lambda odd: lab.store.branch(odd, step=0),
    "replay": lambda odd: lab.store.replay(odd, step=0),
    "open": lambda odd: lab.Checkpoint.open(odd),
    "preflight": lambda odd: lab.preflight(odd),
    "rebuild": lambda odd: lab.rebuild(odd, "out"),
    "layout": lambda odd: lab.Layout(odd),
    "capacity": lambda odd: search(capacity=odd),
    "warmup": lambda odd: search(warmup=odd),
    "crossover": lambda odd: search(crossover=odd),
    "groups": lambda odd: module_search(groups=odd),
    "include": lambda odd: module_search(include=odd),
    "freeze": lambda odd: module_search(freeze=odd),
    "run": lambda odd: search().run(odd),
    "workers": lambda odd: isinstance(odd, int) or lab.ProcessExecutor(odd),
    "genomes": lambda odd: DenseSpace(VECTORS).merge(odd, odd, 2, 0.5),
    "pack": lambda odd: DenseSpace(VECTORS).pack(odd),
    "materialise": lambda odd: DenseSpace(VECTORS).materialise(odd),
    "indices": lambda odd: odd is None or TASK.evaluate(torch.from_numpy(VECTORS[0]), odd),
    "dashboard": lambda odd: odd is None or lab.dashboard(odd),
    "console": lambda odd: lab.Console(odd),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("odd", ODD)
def test_whatever_is_given_is_taken_or_refused_in_a_sentence(entry, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with suppress(InputError):  # any other error fails
        ENTRIES[entry](ODD[odd])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Evolver(lambda m, i: 1, VECTORS),
            "a function; make one of a function with m2n2lab.tasks.from_function",
        ),
        (lambda: Evolver(VECTORS, TASK), "give the task first and the seeds second"),
        (lambda: search(known=np.zeros((1, POINTS))), r"shape \(2, 12\) .* shape \(1, 12\)"),
        (lambda: Evolver(TASK, ["a.safetensors", "b.safetensors"]), "m2n2lab.CheckpointSpace"),
        (lambda: Evolver(TASK, "a.safetensors"), "m2n2lab.CheckpointSpace"),
        (lambda: CheckpointSpace(*VECTORS), "m2n2lab.DenseSpace"),
        (lambda: Evolver(TASK, [LogisticRegression()] * 2), "coef_.ravel"),
        (lambda: Evolver(TASK, [net().state_dict()] * 2), r"module=net\)"),
        (lambda: search().run(1, executor=2), r"ProcessExecutor\(workers=2\)"),
        (lambda: Archive(3, 2).best, "must be a member, got none"),
        (lambda: tasks.from_function(3, lambda m, i: 1), "function first"),
        (lambda: lab.compare({"a": 5}), "searches by name, got 5"),
        (lambda: Evolver(TASK, DenseSpace(VECTORS), device="cpu"), "given to the space"),
        (lambda: search().verdict(np.full(POINTS, -1.0)), "declare the lowest .* low="),
    ],
)
def test_the_sentence_says_what_to_do(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.bool])
def test_scores_are_taken_as_tensors_of_any_dtype(dtype):
    scores = torch.tensor([1.0, 0.5] * (POINTS // 2)).to(dtype)
    expected = search().verdict(scores.double().numpy() if dtype != torch.bool else scores.numpy())
    if dtype.is_floating_point:
        scores.requires_grad_()
    assert search().verdict(scores) == expected
    assert search().verdict(list(scores)) == expected
    assert search().tell(VECTORS[0], scores).verdict == expected


def test_a_member_and_its_genome_are_taken_where_a_model_is():
    evolver, other = search().run(5), search()
    for model in (evolver.best, evolver.best.genome):
        generation = other.tell(model)
        assert generation.verdict.score == evolver.best.score
    again = Evolver(TASK, evolver.archive.members)
    assert [member.score for member in again.archive.members] == [
        member.score for member in evolver.archive.members
    ]


def test_a_state_dict_is_taken_in_a_space_of_modules():
    nets = [net(0), net(1)]
    evolver = Evolver(MODULE_TASK, nets, rng=0)
    assert evolver.tell(nets[1].state_dict()).verdict.score == evolver.archive[1].score
    space = DenseSpace([each.state_dict() for each in nets], module=nets[0])
    assert np.array_equal(space.seeds[1].values, evolver.space.seeds[1].values)
    with pytest.raises(InputError, match="must have the tensors of the Linear"):
        evolver.tell({"other": torch.ones(3)})


def test_the_model_of_a_member_is_ones_own():
    evolver = Evolver(MODULE_TASK, [net(0), net(1)], rng=0).run(5)
    model = evolver.best.model()
    assert isinstance(model, nn.Linear)
    before = evolver.task.evaluate(model).mean()
    assert before == evolver.best.score
    with torch.no_grad():
        model.weight.zero_()
    evolver.run(3)
    assert not model.weight.any()
    assert evolver.task.evaluate(evolver.best.model("cpu")).mean() == evolver.best.score
    vector = search().best.model()
    vector += 1
    assert not np.array_equal(search().best.genome.values, vector.numpy())


def test_a_member_saves_its_model(tmp_path):
    evolver = Evolver(MODULE_TASK, [net(0), net(1)], rng=0)
    evolver.best.save(tmp_path / "best.safetensors")
    evolver.space.save(evolver.best, tmp_path / "other.safetensors")
    saved, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("best", "other"))
    assert saved.keys() == other.keys()
    assert torch.equal(saved["weight"], other["weight"])
    assert torch.equal(saved["weight"], evolver.best.model().weight.detach())
    assert {"model", "save"} <= {*dir(evolver.best)}


def test_a_member_is_pickled_without_its_space_and_copied_with_its_search():
    evolver = search()
    best = evolver.best
    alone = pickle.loads(pickle.dumps(best))
    assert (alone.id, alone.score, alone.space) == (best.id, best.score, None)
    with pytest.raises(InputError, match="must belong to a search"):
        alone.model()
    twin = copy.deepcopy(evolver)
    assert twin.best.space is twin.space is not evolver.space
    evolver.load_state_dict(search().state_dict())
    assert evolver.best.space is evolver.space


def test_several_proposals_are_those_asked_one_by_one():
    one, many = search(), search()
    assert many.ask(5) == [one.ask() for _ in range(5)]
    assert all(each.mix == 0.25 for each in many.ask(2, mix=0.25))
    with pytest.raises(InputError, match=r"ask\(n\)"):
        many.ask(0)


def test_without_a_seed_each_search_draws_another_which_repeats_it():
    a, b = search_of(None), search_of(None)
    assert a.options["rng"] != b.options["rng"]
    again = search_of(a.options["rng"])
    assert a.run(20).state_dict()["rng"] == again.run(20).state_dict()["rng"]


@pytest.mark.parametrize("rng", [None, np.random.default_rng(3)], ids=["none", "generator"])
@pytest.mark.parametrize("method", ["m2n2", "cma-es"])
def test_a_drawn_seed_is_recorded_so_that_the_search_is_resumed(tmp_path, rng, method):
    evolver = lab.make_evolver(method, TASK, VECTORS, rng=rng, mutation=0.1)
    evolver.run(30, store=tmp_path / "runs.db")
    resumed = Evolver.resume(tmp_path / "runs.db", task=TASK)
    assert resumed.options["rng"] == evolver.options["rng"]
    assert [g.verdict for g in (resumed.step(), resumed.step())] == [
        g.verdict for g in (evolver.step(), evolver.step())
    ]


def search_of(rng):
    return Evolver(TASK, VECTORS, rng=rng, mutation=0.1)


def test_generators_of_one_state_make_one_search():
    a, b = (search_of(np.random.default_rng(7)).run(10) for _ in range(2))
    assert np.array_equal(a.archive.scores, b.archive.scores)
    assert a.options["rng"] == b.options["rng"]


@pytest.mark.parametrize("chunk", [None, 4])
def test_scores_below_zero_count_above_the_declared_low(chunk):
    def reward(model, at):
        return 2 * torch.tanh(X[at] @ model) - 1  # in [-3, 1]

    task = tasks.from_function(
        reward, POINTS, graded=True, low=-3.0, top=1.0, held_out=lambda model: -1.0
    )
    shifted = tasks.from_function(
        lambda model, at: reward(model, at).double() + 3.0, POINTS, graded=True, top=4.0
    )
    options = {"rng": 0, "mutation": 0.1, "archive_size": 4, "chunk": chunk}
    a, b = (Evolver(each, VECTORS, **options).run(40) for each in (task, shifted))
    assert np.array_equal(a.archive.scores, b.archive.scores)
    assert a.test == 2.0
    assert task.identity() != shifted.identity()
    low = tasks.from_function(lambda model, at: np.full(len(at), -5.0), 3, low=-3.0, graded=True)
    with pytest.raises(InputError, match="declare a lower low"):
        low.evaluate(None)


def test_shares_weigh_the_data_points():
    right = np.arange(4) == 0
    task = tasks.from_function(lambda model, at: right[at], 4, shares=[3, 1, 1, 1])
    assert Evolver(task, VECTORS).best.score == pytest.approx(0.5)


def test_progress_ends_with_the_last_step_and_changes_nothing(capfd):
    shown, plain = search_of(0).run(20, progress=True), search_of(0).run(20)
    assert "20/20" in capfd.readouterr().err
    assert np.array_equal(shown.archive.scores, plain.archive.scores)


def test_a_device_is_given_to_the_space_of_the_seeds():
    evolver = Evolver(MODULE_TASK, [net(0), net(1)], device="cpu")
    assert evolver.space.device == torch.device("cpu")
    assert "device" not in evolver.options
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA GPU"):
            Evolver(MODULE_TASK, [net(0), net(1)], device="cuda")


def test_modules_of_an_exported_archive_are_seeds_again(tmp_path):
    evolver = Evolver(MODULE_TASK, [net(0), net(1)], rng=0).run(10)
    lab.save_archive(evolver, tmp_path / "a.safetensors")
    saved = lab.load_archive(tmp_path / "a.safetensors", module=net())
    again = Evolver(MODULE_TASK, saved.models)
    assert np.array_equal(again.archive.scores, saved.scores)
    with pytest.raises(InputError):
        lab.load_archive(tmp_path / "a.safetensors", module=nn.Linear(2, 2))


def test_searches_without_held_out_data_are_compared_by_their_training_score():
    plot = lab.compare([search().run(5), search().run(5)])
    assert plot.opts.get("plot").kwargs["ylabel"] == "best, train, per cent"
    assert len(plot.Contours.Runs.split()) == 2


def test_a_copy_of_cma_es_draws_from_its_own_generator():
    pytest.importorskip("cma")
    evolver = lab.make_evolver("cma-es", TASK, VECTORS, rng=0)
    twin = copy.deepcopy(evolver)
    assert [twin.step().verdict.score for _ in range(30)] == [
        evolver.step().verdict.score for _ in range(30)
    ]


def test_completion_lists_what_there_is_to_use():
    names = {name for name in dir(lab.store) if not name.startswith("_")}
    assert {"record", "resume", "branch", "replay", "runs"} <= names
    assert not names & {"codec", "rows", "schema"}
    plots = {name for name in dir(search().plot) if not name.startswith("_")}
    assert plots == {
        *("attraction", "coverage", "curves", "landscape", "lineage", "painting"),
        "export",
    }
