"""The archive file: its contents, exact restoring, and damaged or foreign files."""

import json
import threading

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open

from m2n2lab import (
    CheckpointSpace,
    DenseSpace,
    Evolver,
    InputError,
    archive_bytes,
    load_archive,
    make_evolver,
    save_archive,
    tasks,
)


@pytest.fixture
def evolver(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1).run(60)


@pytest.fixture
def exported(evolver, tmp_path):
    path = tmp_path / "archive.safetensors"
    save_archive(evolver, path)
    return path


def changed(path, name, tensor=None, **about):
    """Write a file with another tensor, or without it, or with other metadata."""
    tensors = safetensors.numpy.load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["m2n2lab"])
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    metadata |= about
    path.write_bytes(safetensors.numpy.save(tensors, {"m2n2lab": json.dumps(metadata)}))
    return path


# -- round trips -------------------------------------------------------------------------------


def test_members_are_loaded_exactly(evolver, exported, tiny):
    saved, archive = load_archive(exported), evolver.archive
    assert tuple(saved.ids) == archive.ids
    assert saved.born.tolist() == [member.born for member in archive.members]
    assert saved.parents == tuple(member.parents for member in archive.members)
    np.testing.assert_array_equal(saved.fitness, archive.fitness)
    np.testing.assert_array_equal(saved.scores, archive.scores)
    for vector, member in zip(saved.models, archive.members, strict=True):
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, member.genome.values)
    assert saved.layout.shapes == evolver.space.layout.shapes
    assert (saved.about["method"], saved.about["task"], saved.about["step"]) == ("m2n2", "tiny", 60)


def test_loaded_models_can_be_seeds_of_another_search(exported, tiny):
    saved = load_archive(exported)
    again = Evolver(tiny, saved.models, archive_size=6, mutation=0.05, rng=2)
    np.testing.assert_array_equal(again.archive.scores, saved.scores)
    np.testing.assert_allclose(again.archive.fitness, saved.fitness, rtol=1e-12)
    assert again.run(5).generation == 5


def test_numpy_and_torch_open_the_file_without_the_lab(evolver, exported):
    table = safetensors.numpy.load_file(exported)
    assert {name: tensor.shape for name, tensor in table.items()} == {
        "ids": (6,),
        "born": (6,),
        "parents": (6, 2),
        "fitness": (6,),
        "scores": (6, 60),
        "vectors": (6, 82),
    }
    assert table["scores"].dtype == np.bool_
    seeds = [k for k, member in enumerate(evolver.archive.members) if not member.parents]
    assert (table["parents"][seeds] == -1).all()
    vectors = safetensors.torch.load_file(exported)["vectors"]
    parts = evolver.space.layout.split(vectors[2])
    with safe_open(exported, "pt") as file:
        layout = json.loads(file.metadata()["m2n2lab"])["layout"]
    assert {name: list(part.shape) for name, part in parts.items()} == layout


def test_the_same_archive_is_the_same_bytes(evolver, exported):
    assert archive_bytes(evolver) == exported.read_bytes()


def test_graded_scores_and_double_vectors_are_kept_to_the_last_bit(tmp_path):
    task = tasks.from_function(lambda model, at: model[at].abs().clip(0, 1), 5, graded=True)
    seeds = np.random.default_rng(0).normal(size=(2, 7))
    evolver = Evolver(task, DenseSpace(seeds, dtype="float64"), rng=0).run(20)
    save_archive(evolver, tmp_path / "a")
    saved = load_archive(tmp_path / "a")
    np.testing.assert_array_equal(saved.scores, evolver.archive.scores)
    np.testing.assert_array_equal(saved.models, [m.genome.values for m in evolver.archive.members])
    assert saved.models[0].dtype == np.float64


@pytest.mark.parametrize("method", ["map-elites", "cycle-qd", "cma-es", "brute-force"])
def test_every_method_can_be_exported(method, tiny, tiny_seeds, tmp_path):
    evolver = make_evolver(method, tiny, tiny_seeds, rng=0).run(30)
    save_archive(evolver, tmp_path / "a")
    saved = load_archive(tmp_path / "a")
    assert saved.about["method"] == method
    np.testing.assert_array_equal(saved.scores, evolver.archive.scores)


def test_checkpoints_are_exported_as_recipes_which_another_search_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        torch.manual_seed(k)
        safetensors.torch.save_file({"weight": torch.randn(3, 4)}, f"{name}.safetensors")

    def make():
        space = CheckpointSpace(
            "a.safetensors", "b.safetensors", module=torch.nn.Linear(4, 3, bias=False)
        )
        task = tasks.from_function(lambda model, at: model.weight.flatten()[at] > 0, 12)
        return Evolver(task, space, rng=0)

    evolver = make().run(10)
    save_archive(evolver, "archive.safetensors")
    assert "vectors" not in safetensors.numpy.load_file("archive.safetensors")
    saved = load_archive("archive.safetensors")
    assert saved.models == [member.genome for member in evolver.archive.members]
    assert saved.about["seeds"] == [seed.id for seed in evolver.space.plan.seeds]
    other = make()
    for recipe, scores in zip(saved.models, saved.scores, strict=True):
        np.testing.assert_array_equal(other.task.evaluate(other.space.materialise(recipe)), scores)
        other.tell(recipe)


# -- while the search goes on ------------------------------------------------------------------


def test_a_population_stays_unchanged_while_the_search_goes_on(evolver):
    now, rows = evolver.archive.population, evolver.archive.population.order
    scores, fitness = now.scores[rows].copy(), now.fitness[rows].copy()
    ids = evolver.archive.ids
    evolver.run(300)
    assert evolver.archive.ids != ids
    np.testing.assert_array_equal(now.scores[rows], scores)
    np.testing.assert_array_equal(now.fitness[rows], fitness)


def test_an_export_while_another_thread_searches_is_a_consistent_snapshot(evolver, tmp_path):
    done, files = threading.Event(), set()

    def search():
        while not done.is_set():
            evolver.step()

    thread = threading.Thread(target=search)
    thread.start()
    try:
        while len(files) < 20 and thread.is_alive():
            files.add(archive_bytes(evolver))
    finally:
        done.set()
        thread.join(30)
    assert len(files) == 20
    for k, content in enumerate(files):
        (tmp_path / str(k)).write_bytes(content)
        saved = load_archive(tmp_path / str(k))
        # Fitness computed from the scores: Σ_j s_kj / z_j.
        z = np.maximum(saved.scores.sum(axis=0), 1)
        np.testing.assert_allclose((saved.scores / z).sum(axis=1), saved.fitness, rtol=1e-12)
        for vector, scores in zip(saved.models, saved.scores, strict=True):
            made = evolver.task.evaluate(torch.from_numpy(vector))
            np.testing.assert_array_equal(made, scores)


# -- bad files ---------------------------------------------------------------------------------


def test_a_truncated_file_is_refused_in_one_sentence(exported):
    whole = exported.read_bytes()
    for length in (0, 5, 8, 100, len(whole) // 2, len(whole) - 1):
        exported.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged or incomplete") as caught:
            load_archive(exported)
        assert str(caught.value).count("; ") == 1


def test_changed_bytes_are_refused_or_harmless(exported):
    whole = bytearray(exported.read_bytes())
    draw = np.random.default_rng(0)
    refused = 0
    for at in draw.integers(0, 1200, 400):
        broken = whole.copy()
        broken[at] = draw.integers(256)
        exported.write_bytes(broken)
        try:
            load_archive(exported)
        except InputError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("name", "tensor", "about", "message"),
    [
        ("ids", None, {}, "got an archive without ids"),
        ("vectors", None, {}, "got an archive without vectors"),
        ("ids", np.zeros((0,), np.int64), {}, "ids of shape"),
        ("ids", np.zeros(6, np.float64), {}, "got an archive with ids of dtype F64"),
        ("born", np.zeros(5, np.int64), {}, r"got an archive with born of shape \(5,\)"),
        ("vectors", np.zeros((6, 81), np.float32), {}, r"with vectors of shape \(6, 81\)"),
        ("scores", np.zeros(6), {}, r"scores of shape \(6,\)"),
        ("-", None, {"format": "m2n2lab recipe"}, "got a safetensors file of another format"),
        ("-", None, {"version": 2}, "got an archive of version 2"),
        ("-", None, {"layout": {"w": "82"}}, "got an archive whose layout has no shapes"),
        ("-", None, {"layout": {"w": [10**30]}}, "; export it again"),
        ("-", None, {"recipes": [{"size": 82}] * 6}, "got an archive with an invalid recipe"),
        ("-", None, {"recipes": 7}, "recipes of other models"),
    ],
)
def test_an_inconsistent_archive_is_refused(exported, name, tensor, about, message):
    with pytest.raises(InputError, match=message):
        load_archive(changed(exported, name, tensor, **about))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="could not be read: No such file"):
        load_archive(tmp_path / "none")
    with pytest.raises(InputError, match="could not be read: Is a directory"):
        load_archive(tmp_path)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="damaged or incomplete"):
        load_archive(tmp_path / "other.npz")
    safetensors.numpy.save_file({"ids": np.zeros(3)}, tmp_path / "plain")
    with pytest.raises(InputError, match="a safetensors file of another format"):
        load_archive(tmp_path / "plain")


def test_a_failed_write_keeps_the_older_file(evolver, exported, monkeypatch):
    before = exported.read_bytes()
    evolver.run(50)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save_archive(evolver, exported)
    assert exported.read_bytes() == before
    assert list(exported.parent.iterdir()) == [exported]


def test_models_that_are_neither_vectors_nor_recipes_are_refused(evolver, monkeypatch):
    monkeypatch.setattr(evolver.space, "pack", lambda genome: {"a": 1})
    with pytest.raises(InputError, match="Exported models must be vectors or recipes, got"):
        archive_bytes(evolver)
