"""History: its rows, and the class means of the best member."""

import numpy as np
import pytest

from m2n2lab.core.history import COLUMNS, History


def history(steps):
    """Return a history of ``steps`` rows, in which row k has k in every column."""
    history = History()
    history.restore(np.tile(np.arange(float(steps))[:, None], len(COLUMNS)), None)
    return history


def rows(table):
    """Return the numbers of whole rows."""
    assert table.shape[1] == len(COLUMNS)
    assert (table == table[:, :1]).all()
    return table[:, 0].tolist()


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [
        (5, 3, [0, 2, 4]),
        (5, 2, [0, 4]),
        (7, 3, [0, 3, 6]),
        (5, 5, [0, 1, 2, 3, 4]),
        (3, 9, [0, 1, 2]),
        (1, 2, [0]),
        (0, 2, []),
    ],
)
def test_a_sample_is_evenly_spaced_with_the_first_and_the_last_row(steps, count, expected):
    assert rows(history(steps).sample(count)) == expected


def test_a_table_is_all_rows_or_those_from_a_start_to_before_a_stop():
    whole = history(5)
    assert len(whole) == 5
    assert rows(whole.table()) == rows(whole.table(0)) == [0, 1, 2, 3, 4]
    assert rows(whole.table(3)) == [3, 4]
    assert rows(whole.table(1, 3)) == [1, 2]
    assert rows(whole.table(2, 2)) == rows(whole.table(9)) == []
    assert whole.column("mix").tolist() == [0, 1, 2, 3, 4]


def test_the_last_row_is_removed_with_the_class_means_of_its_step():
    whole = history(5)
    whole.class_means.update({2: (0.5,), 4: (0.75,)})
    whole.forget_last()
    assert rows(whole.table()) == [0, 1, 2, 3]
    assert whole.class_means == {2: (0.5,)}
    whole.forget_last()  # nothing is known of step 3
    assert whole.class_means == {2: (0.5,)}


def test_class_means_hold_until_another_member_is_the_best():
    whole = history(9)
    whole.class_means.update({5: (0.5, 0.75), 2: (0.25, 0.5)})
    found = whole.class_means_at(np.array([1.0, 2.0, 4.0, 5.0, 8.0]), 2)
    nan = float("nan")
    expected = [(nan, nan), (0.25, 0.5), (0.25, 0.5), (0.5, 0.75), (0.5, 0.75)]
    np.testing.assert_array_equal(found, expected)
