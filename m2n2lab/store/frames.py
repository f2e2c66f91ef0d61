"""Frames: the runs of a store as a DataFrame, and tables as Parquet."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from m2n2lab.store.catalog import Run, snapshot
from m2n2lab.store.catalog import runs as summaries
from m2n2lab.store.labels import labelled
from m2n2lab.store.specs import EvolverSpec
from m2n2lab.store.tables import RunRow
from m2n2lab.utils.errors import file_path
from m2n2lab.utils.extras import missing

if TYPE_CHECKING:
    import pandas as pd

_LABELS = ("name", "note", "pinned")


def runs(path: str | Path) -> pd.DataFrame:
    """Return the runs of a store as a DataFrame, indexed by their numbers, the oldest first.

    Columns are the fields of ``store.Run``; the name, note and pin that a person has given a run on
    the page; and the options of its search, as ``options.alpha`` and so on.

    ::

        runs = m2n2lab.runs("runs.db")
        runs.sort_values("test").tail(3)
        runs.groupby(["method", "options.alpha"])["test"].agg(["mean", "std", "count"])

    Raises:
        StoreError: it cannot be read.
    """
    import pandas as pd

    path = file_path("path", path)
    found = summaries(path)
    given = {each.run: {name: getattr(each, name) for name in _LABELS} for each in labelled(path)}
    with snapshot(path) as file:
        options = {
            row.run: EvolverSpec.from_json(row.method, row.options).options
            for row in file.rows(RunRow, "ORDER BY run")
        }
    unlabelled = {"name": "", "note": "", "pinned": False}
    rows = [
        {
            **run._asdict(),
            **given.get(run.run, unlabelled),
            **{f"options.{name}": _cell(value) for name, value in options.get(run.run, {}).items()},
        }
        for run in found
    ]
    frame = pd.DataFrame(rows, columns=None if rows else [*Run._fields, *_LABELS])
    frame = frame.astype({"parent": "Int64"}).set_index("run")
    return frame.assign(created=pd.to_datetime(frame["created"], utc=True))


def _cell(value: object) -> object:
    """Return an option as a value of a table; operators and lists as JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def parquet(frame: pd.DataFrame) -> bytes:
    """Return a table as the bytes of a Parquet file, its index a column.

    Raises:
        InputError: pyarrow, which writes it, is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise missing("Parquet", "pyarrow", "tables", "give --csv FILE") from None
    file = io.BytesIO()
    frame.reset_index().to_parquet(file, engine="pyarrow", index=False)
    return file.getvalue()
