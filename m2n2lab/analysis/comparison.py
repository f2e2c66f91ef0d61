"""Comparison of several searches over their forward passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from m2n2lab.analysis.maps import CurvesData
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import choose

METRICS = {"best, held out": "test", "best, train": "train", "covered": "covered"}
"""Metrics that can be compared, and their fields of ``CurvesData``."""

MIN_LABEL_GAP = 0.055
"""Minimum distance of two names at the ends of curves, as a share of the height of a plot of 200
pixels or more."""


class CompareData(NamedTuple):
    """Curves of several searches, in per cent.

    Attributes:
        names: of the searches.
        numbers: of the searches, from 0; the colour of a search depends on its number alone.
        steps: of each search, (n_k,) forward passes.
        values: of each search, (n_k,) known values.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    steps: tuple[Floats, ...]
    values: tuple[Floats, ...]

    @property
    def last(self) -> float:
        """Forward passes of the longest search, at least 1."""
        return max([1.0, *(float(steps[-1]) for steps in self.steps if len(steps))])

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper end, in per cent, of a plot of all values."""
        known = [values for values in self.values if len(values)]
        if not known:
            return 0.0, 100.0
        low, high = min(float(v.min()) for v in known), max(float(v.max()) for v in known)
        room = max(high - low, 5.0) * 0.06
        return max(low - room, 0.0), min(high + room, 102.0)


def compare_data(
    curves: Mapping[str, CurvesData],
    metric: str = "best, held out",
    numbers: tuple[int, ...] | None = None,
) -> CompareData:
    """Return the curves of several searches side by side.

    Args:
        curves: of each search, by its name.
        metric: one of ``METRICS``.
        numbers: of the searches, for their colours; 0, 1, … by default.

    Raises:
        InputError: the metric is unknown.
    """
    field = METRICS[choose("metric", metric, METRICS)]
    steps, values = [], []
    for data in curves.values():
        y = getattr(data, field)
        known = ~np.isnan(y)
        steps.append(data.step[known])
        values.append(y[known])
    numbers = tuple(range(len(curves))) if numbers is None else numbers
    return CompareData(tuple(curves), numbers, tuple(steps), tuple(values))


def label_heights(data: CompareData, apart: float = MIN_LABEL_GAP) -> Floats:
    """Return the height (K,), in per cent, of each name at the end of its curve.

    Names keep the order of the curves' ends and a minimum distance, and lie within the plot; NaN
    for a curve without points.

    Args:
        data: the curves.
        apart: minimum distance of two names, as a share of the plot's height.
    """
    low, high = data.bounds
    apart *= high - low
    ends = np.array([float(v[-1]) if len(v) else np.nan for v in data.values])
    order = [k for k in np.argsort(ends, kind="stable") if not np.isnan(ends[k])]
    heights, floor = ends.copy(), low - apart / 2
    for k in order:
        heights[k] = floor = max(heights[k], floor + apart)
    ceiling = high + apart / 2
    for k in reversed(order):  # move down the names that lie above the plot now
        heights[k] = ceiling = min(heights[k], ceiling - apart)
    return heights
