"""Looking back in a session, and branching from there."""

from dataclasses import fields
from functools import partial

import numpy as np
import pytest
from m2n2lab.widgets.session import Session
from m2n2lab.widgets.tape import Past, taped
from sessions import PATIENCE, wait_for

from m2n2lab import Evolver


@pytest.fixture
def make(tiny, tiny_seeds):
    return lambda: Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)


@pytest.fixture
def session(make, tmp_path):
    path = tmp_path / "runs.db"
    session = Session(make, title="mine", record=partial(taped, title="mine", store=path))
    session.start()
    yield session
    session.close()
    assert session.join(PATIENCE)


def stepped(session, steps):
    session.step(steps)
    done = session.snapshot.step + steps
    return wait_for(session, lambda s: s.step == done and s.phase == "paused")


def looked(session, step):
    session.look(step)
    return wait_for(session, lambda s: s.past is not None and s.past.step == step)


def test_the_past_is_what_the_page_showed_then(session):
    start = wait_for(session, lambda s: s.phase == "paused")
    then = stepped(session, 25)
    now = stepped(session, 30)
    for shown in (then, start):
        seen = looked(session, shown.step).seen
        for field in fields(Past):
            a, b = getattr(seen, field.name), getattr(shown, field.name)
            parts = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
            for part, expected in parts:
                np.testing.assert_array_equal(part, expected, err_msg=field.name)
    # What is not of the archive goes on, and now is one order away.
    assert seen.curves is session.snapshot.curves
    session.look(None)
    assert wait_for(session, lambda s: s.past is None).seen.step == now.step
