"""History: one row of numbers for each step, compact on long runs."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.records import Generation, Standing

if TYPE_CHECKING:
    import pandas as pd

_MEMBERS = ("displaced", "parent_a", "parent_b", "best", "child")
_INTEGERS = ("step", *_MEMBERS, "split", "rank", "members", "unseen")
_BOOLEANS = ("accepted", "by_hand")
_REALS = ("mix", "score", "fitness", "train", "test", "coverage", "entropy")

COLUMNS = (*_INTEGERS, *_BOOLEANS, *_REALS)
"""Columns of the history, in order."""


class History:
    """A table that grows by one row (152 bytes) per generation, read as arrays or as a DataFrame.

    All values are doubles (ids and steps are exact below 2^53), missing ones NaN, so that a row is
    added in one indivisible call: neither an interrupt nor a reader in another thread ever sees
    half a row.

    Attributes:
        start: the standing before the first row; ``None`` without rows.
        class_means: the best member's mean score in each class, by the step at which it became the
            best.
    """

    def __init__(self) -> None:
        self.start: Standing | None = None
        self.class_means: dict[int, tuple[float, ...]] = {}
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._values) // len(COLUMNS)

    def append(self, generation: Generation) -> None:
        """Add the row of one generation."""
        self.start = self.start or generation.before
        proposal, verdict, after = generation.proposal, generation.verdict, generation.after
        nan = float("nan")
        a, b = (*generation.parents, nan, nan)[:2]
        split = proposal.split if proposal else None
        mix = proposal.mix if proposal else None
        self._values.extend(
            (
                generation.step,
                nan if verdict.displaced is None else verdict.displaced,
                a,
                b,
                after.best,
                generation.child,
                nan if split is None else split,
                verdict.rank,
                len(after.ids),
                verdict.unseen,
                verdict.accepted,
                bool(proposal.by_hand) if proposal else True,
                nan if mix is None else mix,
                verdict.score,
                verdict.fitness,
                after.train,
                generation.test,
                after.coverage,
                after.entropy,
            )
        )

    def restore(
        self,
        table: NDArray[np.float64],
        start: Standing | None,
        class_means: Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        """Replace the rows by ``table`` (steps, columns) and the standing before them by ``start``.

        ``class_means`` are added to those known already.
        """
        self.start = start
        self.class_means |= {step: tuple(means) for step, means in (class_means or {}).items()}
        self._values = array("d", table.astype(np.float64).tobytes())

    def forget_last(self) -> None:
        """Remove the last row, because its step was taken back."""
        self.class_means.pop(int(self._values[-len(COLUMNS)]), None)
        del self._values[-len(COLUMNS) :]

    def class_means_at(self, steps: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
        """Return the best member's mean score in each class after ``steps`` (steps, classes).

        NaN for steps before the first known one.
        """
        known = sorted(self.class_means.items())  # a copy: another thread may add to them
        rows = np.searchsorted([step for step, _ in known], steps, "right")
        values = [(float("nan"),) * classes, *(values for _, values in known)]
        return np.array(values)[rows]

    def table(self, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Return a copy of the rows in [``start``, ``stop``), by default all (steps, columns)."""
        width = len(COLUMNS)
        end = None if stop is None else stop * width
        return np.array(self._values[start * width : end]).reshape(-1, width)

    def sample(self, count: int) -> NDArray[np.float64]:
        """Return a copy of up to ``count`` evenly spaced rows, including the first and the last."""
        width = len(COLUMNS)
        chosen = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round()).astype(int)
        rows = (self._values[row * width : (row + 1) * width] for row in chosen.tolist())
        return np.array([*rows]).reshape(-1, width)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one column (steps,)."""
        return self.table()[:, COLUMNS.index(name)]

    def frame(self) -> pd.DataFrame:
        """Return the history as a DataFrame indexed by step; missing ids are ``NA``."""
        import pandas as pd

        frame = pd.DataFrame(self.table(), columns=list(COLUMNS))
        dtypes = dict.fromkeys(_INTEGERS, "Int64") | dict.fromkeys(_BOOLEANS, "bool")
        return frame.astype({**dtypes, "step": "int64"}).set_index("step")
