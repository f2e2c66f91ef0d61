"""What happened, one row of numbers a step, kept small on long runs."""

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
_WHOLE = ("step", *_MEMBERS, "split", "rank", "members", "unseen")
_TRUTH = ("accepted", "by_hand")
_REAL = ("mix", "score", "fitness", "train", "test", "coverage", "entropy")

COLUMNS = (*_WHOLE, *_TRUTH, *_REAL)
"""Columns of the history, in order."""


class History:
    """Rows that grow by one a generation (152 bytes), read as arrays or as a DataFrame.

    All values are doubles (ids and steps are exact below 2^53), and missing ones NaN, so that a
    row is added in one indivisible call: neither an interrupt nor a reader in another thread
    ever sees half a row.

    Attributes:
        start: how things stood before the first row; ``None`` before there is one.
        parts: by the steps at which another member became the best, its mean score in each class.
    """

    def __init__(self) -> None:
        self.start: Standing | None = None
        self.parts: dict[int, tuple[float, ...]] = {}
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._values) // len(COLUMNS)

    def append(self, generation: Generation) -> None:
        """Add one generation."""
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
        parts: Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        """Take the rows of another history (steps, columns), and how things stood before them.

        ``parts`` are added to what is known already.
        """
        self.start = start
        self.parts |= {step: tuple(values) for step, values in (parts or {}).items()}
        self._values = array("d", table.astype(np.float64).tobytes())

    def forget_last(self) -> None:
        """Drop the last row: the step that it tells of was taken back."""
        self.parts.pop(int(self._values[-len(COLUMNS)]), None)
        del self._values[-len(COLUMNS) :]

    def parts_at(self, steps: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
        """Return the best member's mean score in each class after ``steps`` (steps, classes).

        NaN for steps before any that it is known of.
        """
        known = sorted(self.parts.items())  # a copy: another thread may add to them
        rows = np.searchsorted([step for step, _ in known], steps, "right")
        values = [(float("nan"),) * classes, *(values for _, values in known)]
        return np.array(values)[rows]

    def table(self, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Return a copy of the rows from ``start`` to before ``stop``, or all (steps, columns)."""
        width = len(COLUMNS)
        end = None if stop is None else stop * width
        return np.array(self._values[start * width : end]).reshape(-1, width)

    def sample(self, count: int) -> NDArray[np.float64]:
        """Return a copy of up to ``count`` rows, evenly spaced, the first and last among them."""
        width = len(COLUMNS)
        places = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round()).astype(int)
        rows = (self._values[place * width : (place + 1) * width] for place in places.tolist())
        return np.array([*rows]).reshape(-1, width)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one column (steps,)."""
        return self.table()[:, COLUMNS.index(name)]

    def frame(self) -> pd.DataFrame:
        """Return everything as a DataFrame indexed by step; missing ids are ``NA``."""
        import pandas as pd

        frame = pd.DataFrame(self.table(), columns=list(COLUMNS))
        kinds = dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_TRUTH, "bool")
        return frame.astype({**kinds, "step": "int64"}).set_index("step")
