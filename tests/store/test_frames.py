"""The runs of a store as a DataFrame."""

import json

import pandas as pd
import pytest
from helpers.stores import search, small

import m2n2lab as lab
from m2n2lab import store
from m2n2lab.store.labels import label


def test_runs_are_a_frame_with_their_options_and_labels(db):
    task = small()
    first = search(task).run(6, store=db)
    search(task, rng=1, alpha=0.5, mate="random").run(4, store=db)
    store.branch(db, 1, step=3, task=task).run(1, store=db)
    label(db, 2, name="half", note="why not", pinned=True)
    frame = lab.runs(db)
    assert frame.index.tolist() == [1, 2, 3]
    assert frame["last"].tolist() == [6, 4, 4]
    assert frame["parent"].tolist() == [pd.NA, pd.NA, 1]
    assert frame["options.alpha"].tolist() == [1.0, 0.5, 1.0]
    assert frame.loc[1, "test"] == pytest.approx(first.test)
    assert frame.loc[2, ["name", "note", "pinned"]].tolist() == ["half", "why not", True]
    assert frame.loc[1, ["name", "note", "pinned"]].tolist() == ["", "", False]
    assert str(frame["created"].dtype).endswith("UTC]")
    assert json.loads(frame.loc[2, "options.mate"]) == {"operator": "random"}
    assert (frame.groupby("options.alpha")["test"].count() == [1, 2]).all()


def test_a_store_without_runs_is_an_empty_frame(db):
    store.Recorder(search(small()), db, empty=False).close()
    assert lab.runs(db).empty
    assert {"test", "name"} <= set(lab.runs(db).columns)


def test_what_is_no_store_is_named(tmp_path):
    with pytest.raises(store.StoreError, match=r"absent\.db"):
        lab.runs(tmp_path / "absent.db")
