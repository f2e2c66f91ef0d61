"""Searches that are recorded, killed and compared."""

import multiprocessing
import sqlite3
from contextlib import contextmanager

import numpy as np
import torch

from m2n2lab import Evolver, ProcessExecutor, store, tasks
from m2n2lab.store.tables import TABLES, insertion, sealed

STEPS = 400
"""Steps of a search that is killed before its end."""


def small():
    """Return a task of 40 data points and networks of 43 weights: a step is quick."""
    draw = np.random.default_rng(1)
    y = np.arange(50) % 3
    X = draw.normal(size=(50, 4)) + 2 * np.eye(4)[y]
    return tasks.Classify(X[:40], y[:40], X[40:], y[40:], hidden=5, name="small")


def search(task, rng=0, **options):
    """Return a search whose members change often."""
    options = {"archive_size": 6, "mutation": 0.2} | options
    return Evolver(task, task.random_seeds(2, rng=rng, scale=0.5), rng=rng, **options)


@contextmanager
def recording(record, *args):
    """Run ``record`` in a process, wait until it is ready, and kill it at the end of the block."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["helpers.stores"])  # imports run once for all processes
    ready, theirs = processes.Pipe()
    process = processes.Process(target=record, args=(*args, theirs))
    process.start()
    theirs.close()  # else a process that fails before it is ready would be waited for forever
    try:
        assert ready.recv()
        yield process
    finally:
        process.kill()
        process.join()


def record_until_killed(path, ready):
    """Record a search in batches of a few steps, until the process is killed."""
    torch.set_num_threads(1)
    evolver = search(small())
    with store.record(evolver, path, batch=7):
        ready.send(True)
        evolver.run(STEPS)
    ready.recv()  # wait to be killed


def record_workers_until_killed(path, workers, ready):
    """Record a search whose children are scored by processes, until this one is killed."""
    torch.set_num_threads(1)
    evolver = search(small())
    with store.record(evolver, path, batch=7), ProcessExecutor(workers) as pool:
        evolver.run(3, executor=pool)
        ready.send(True)
        evolver.run(100 * STEPS, executor=pool)


def change(path, statement, *values, seal=True):
    """Change a store by hand; with ``seal`` each row gets the checksum of what it then is."""
    with sqlite3.connect(path) as file:
        file.execute(statement, values)
        for kind in TABLES if seal else ():
            columns = ", ".join(kind._fields)
            rows = file.execute(f"SELECT {columns} FROM {TABLES[kind]}").fetchall()
            file.executemany(insertion(kind), map(sealed, rows))
    file.close()


def state(evolver):
    """Return the state of a search as values that can be compared."""
    found = evolver.state_dict()
    archive = found["archive"]
    genomes = [_plain(genome) for genome in archive["genomes"]]
    tested = found["tested"]
    return {
        **found,
        "archive": {**archive, "genomes": genomes, "scores": archive["scores"].tolist()},
        "tested": None if tested is None else (tested[0], repr(tested[1])),
    }


def _plain(genome):
    if isinstance(genome, dict):
        return {name: part.tolist() for name, part in genome.items()}
    return None if genome is None else (str(genome.dtype), genome.tolist())


def same(a, b):
    """Check that two searches have the same state and history, bit for bit."""
    assert np.array_equal(a.test, b.test, equal_nan=True)  # evaluated on access
    assert state(a) == state(b)
    assert np.array_equal(a.records.table(), b.records.table(), equal_nan=True)
    starts = [evolver.records.start for evolver in (a, b)]
    assert len({start and start.ids for start in starts}) == 1
    steps, classes = a.records.column("step"), len(a.task.classes)
    parts = [evolver.records.class_means_at(steps, classes) for evolver in (a, b)]
    assert np.array_equal(*parts)
    assert not np.isnan(parts[0]).any()
    return True


def same_archive(a, b):
    """Check that two archives hold the same members, scores and fitness; genomes aside."""
    assert [(m.id, m.born, m.parents, m.score) for m in a.members] == [
        (m.id, m.born, m.parents, m.score) for m in b.members
    ]
    for name in ("scores", "fitness", "z", "weights"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert a.entropy == b.entropy
    return True
