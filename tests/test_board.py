"""How a page follows its search, without a browser."""

from collections import deque
from dataclasses import replace

import pytest
from bokeh.document import Document
from m2n2lab.widgets.board import Board
from m2n2lab.widgets.desks import Desk
from m2n2lab.widgets.runs import Runs
from m2n2lab.widgets.snapshot import Snapshot
from panel.io.state import set_curdoc

from m2n2lab.settings import Settings


@pytest.fixture
def board(digits):
    """A page whose plots only note which of them was shown what."""
    runs = Runs({"digits": digits})
    board = Board(Desk(runs, runs.add(Settings(threads=1))))
    board.calls = []
    board._seen_plots = deque(
        [lambda snapshot, name=name: board.calls.append((name, snapshot)) for name in "abcde"]
    )
    yield board
    runs.close()


def test_plots_of_a_running_search_come_one_after_the_other_until_all_show_a_snapshot(board):
    running = [Snapshot(phase="running", step=step) for step in range(3)]
    board._shown = running[0]
    for _ in range(2):
        board._update_plots(running[1])
    assert board._shown is running[0]
    for _ in range(5):
        board._update_plots(running[2])
    assert [name for name, _ in board.calls[2:]] == list("cdeab")
    assert {id(snapshot) for _, snapshot in board.calls[2:]} == {id(running[2])}
    assert board._shown is running[2]


def test_at_rest_and_for_the_first_time_all_plots_are_shown_at_once(board):
    running = Snapshot(phase="running", step=1)
    board._update_plots(running)
    assert [name for name, _ in board.calls] == list("abcde")
    paused = replace(running, phase="paused")
    board._update_plots(paused)
    assert [name for name, _ in board.calls[5:]] == list("abcde")
    assert board._shown is paused


def test_what_was_done_is_shown_at_once_also_where_plots_were_asked_for_meanwhile(
    board, monkeypatch
):
    ticks, shown = [], []
    document = Document()
    monkeypatch.setattr(document, "add_next_tick_callback", ticks.append)
    monkeypatch.setattr(board, "refresh", lambda at_once=False: shown.append(at_once))
    with set_curdoc(document):
        board.prepare()
    ticks.pop()()  # the page has been sent
    ticks.pop()()
    assert ticks == []
    shown.clear()
    board._look_again()  # of a tab, say, and before that is shown a step is done
    board._hurry()
    assert len(ticks) == 1
    ticks.pop()()
    assert shown == [True, False]
    board._look_again()
    ticks.pop()()
    assert shown[2:] == [False]


def test_lines_of_runs_that_are_gone_are_used_again(board):
    # What Bokeh has shown a page once is kept there for good.
    runs = board.compare._runs
    first = board.run
    seen = set()
    for _ in range(4):
        other = runs.add(Settings(method="ga", threads=1))
        board.compare.update()
        shown = [pane for pane in board.compare.list if pane.visible]
        assert [pane[3].name for pane in shown] == ["Remove 1", f"Remove {other.number}"]
        shown[1][3].clicks += 1
        board.compare.update()
        assert runs.all == (first,)
        assert [pane[3].name for pane in board.compare.list if pane.visible] == ["Remove 1"]
        assert f"run-{other.number}" not in board.compare.list[1][0].object
        seen |= set(board.compare.list)
    assert len(seen) == 2
