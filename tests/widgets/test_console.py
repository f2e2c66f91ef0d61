"""The console without a browser: its orders, what it shows, and what it leaves behind."""

import asyncio
import re
import signal
import sys
import threading
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pytest
from comm import get_comm_manager
from helpers.sessions import observers_of, until, wait_for
from ipywidgets.widgets.widget import _instances
from m2n2lab.widgets.notebook.anywidgets import PairPicker
from m2n2lab.widgets.notebook.console_html import console_css, curves_html, log_html, title_html
from m2n2lab.widgets.notebook.interrupts import Interrupts

import m2n2lab as lab
from m2n2lab import Console, Evolver, InputError


@pytest.fixture
def evolver(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, mutation=0.1, rng=0).run(50)


@pytest.fixture
def console(evolver):
    console = Console(evolver)
    wait_for(console, lambda snapshot: snapshot.bench is not None)
    yield console
    console.close()


def left():
    """Return what a console may leave behind: comms, widgets and threads, each with its sort."""
    comms, threads = get_comm_manager().comms, threading.enumerate()
    found = {"comm": comms, "widget": _instances, "thread": threads}
    return {(sort, each) for sort, all in found.items() for each in tuple(all)}


def test_a_closed_console_leaves_nothing_behind(evolver, monkeypatch):
    observers, before = observers_of(evolver, monkeypatch), left()
    consoles = [Console(evolver) for _ in range(3)]
    for console in consoles:
        wait_for(console, lambda snapshot: snapshot.niches is not None)
        console.run()
    wait_for(consoles[0], lambda snapshot: snapshot.step > 100)
    assert observers
    assert {sort for sort, _ in left() - before} == {"comm", "widget", "thread"}
    consoles[0].close()
    consoles[0].close()  # a second time does nothing
    consoles[1].widget.close()
    consoles[2].widget.close()
    assert not left() - before
    assert not observers
    step = evolver.generation
    assert evolver.step().step == step + 1


def test_a_step_in_a_cell_is_seen_by_the_console_and_the_other_way_round(evolver, console):
    evolver.step()
    wait_for(console, lambda snapshot: snapshot.step == 51)
    evolver.run(20)
    wait_for(console, lambda snapshot: snapshot.step == 71)
    console.step(3)
    wait_for(console, lambda snapshot: snapshot.step == 74 and snapshot.phase == "paused")
    assert evolver.generation == 74
    until(lambda: ">74</b>" in console.figures.value)


def test_cells_step_while_the_console_runs(evolver, console):
    console.run()
    wait_for(console, lambda snapshot: snapshot.phase == "running")
    steps = [evolver.step().step for _ in range(100)]
    assert steps == sorted(set(steps))
    console.pause()
    snapshot = wait_for(console, lambda snapshot: snapshot.phase == "paused")
    assert snapshot.step == evolver.generation == len(evolver.records) >= steps[-1]


def parts(widget):
    """Return a widget and all that lies in it."""
    return [widget, *(part for child in getattr(widget, "children", ()) for part in parts(child))]


def shown(console):
    """Return figures, curves, log and attraction as a console shows them, but for its speed."""
    widgets = parts(console.widget)
    texts = [part.value for part in widgets if isinstance(part, ipywidgets.HTML)]
    marks = ('data-testid="step"', 'class="curves"', 'data-testid="log"')
    found = [text for mark in marks for text in texts if mark in text]
    pairs = [part for part in widgets if isinstance(part, PairPicker)]
    return [re.sub(r"[\d,.]+ (s a step|steps/s)", "", text) for text in found] + [
        (part.ids, part.worth) for part in pairs
    ]


def test_several_consoles_on_one_search_show_the_same(evolver, console):
    other = Console(evolver)

    def both_show(step):
        marks = (f">{step}</b>", f">{step} steps</text>", f"<i>{step}</i>")
        ours, theirs = shown(console), shown(other)
        return ours == theirs and all(mark in text for mark, text in zip(marks, ours, strict=False))

    try:
        for step, stepped in ((51, console), (52, other), (53, console)):
            stepped.step()
            until(lambda step=step: both_show(step))
            ids, worth = shown(other)[-1]
            rows = [evolver.archive.ids.index(id) for id in ids]
            expected = evolver.archive.attraction()[np.ix_(rows, rows)]
            np.fill_diagonal(expected, 0.0)
            np.testing.assert_allclose(worth, expected, atol=5e-4)
    finally:
        other.close()
    last = shown(other)
    console.step()
    until(lambda: ">54</b>" in shown(console)[0])
    assert shown(other) == last  # a closed one follows no more


def test_the_menus_offer_the_living_and_a_pick_by_hand_is_previewed(evolver, console):
    ids = console.picker.ids
    assert sorted(ids) == list(evolver.archive.ids)
    a, b = ids[2], ids[0]
    console.picker.set_state({"a": a, "b": b})  # as the browser sends it
    console.split.set_state({"split": 40})
    console.mix.set_state({"value": 0.25})
    found = wait_for(
        console, lambda s: s.bench.proposal.parents == (a, b) and s.bench.proposal.mix == 0.25
    )
    assert found.bench.proposal.split == 40
    assert (console.picker.a, console.picker.b) == (a, b)
    console.merge()
    after = wait_for(console, lambda snapshot: snapshot.step == 51)
    assert evolver.records.table()[-1][2:4].tolist() == [a, b]
    wait_for(console, lambda snapshot: "Child" in snapshot.note)
    assert after.bench is not None


def test_twenty_steps_at_once_leave_the_living_on_the_menus_and_on_the_bench(evolver, console):
    for _ in range(10):
        a, b = evolver.archive.ids[:2]  # the oldest are the likeliest to die
        console.picker.set_state({"a": a, "b": b})
        evolver.run(20)
        step = evolver.generation
        snapshot = wait_for(
            console,
            lambda s, step=step: (
                s.step == step
                and not s.stale
                and set(console.picker.ids) == set(evolver.archive.ids)
            ),
        )
        assert set(snapshot.bench.proposal.parents) <= set(evolver.archive.ids)


def test_the_replacement_of_a_dead_parent_is_named(evolver, console):
    a, b = evolver.archive.ids[:2]
    console.choose(a=a, b=b)
    wait_for(console, lambda s: s.bench.proposal.parents == (a, b))
    while a in evolver.archive:
        evolver.step()
    snapshot = wait_for(console, lambda s: f"Member {a} does not live" in s.note)
    assert snapshot.bench.proposal.parents[0] == evolver.best.id == console.session.orders.choice.a


def test_a_state_that_is_loaded_in_a_cell_is_followed(evolver, console):
    state = evolver.state_dict()
    console.step(30)
    wait_for(console, lambda s: s.step == 80 and s.phase == "paused")
    evolver.load_state_dict(state)
    evolver.step()
    snapshot = wait_for(console, lambda s: s.step == 51)
    assert set(snapshot.attraction.ids) == set(evolver.archive.ids)
    assert snapshot.phase == "paused"


def test_a_step_that_fails_is_shown_and_the_console_goes_on(evolver, console, monkeypatch):
    monkeypatch.setattr(evolver.task, "evaluate", lambda model: 1 / 0)
    console.step()
    wait_for(console, lambda s: s.phase == "failed")
    until(lambda: "ZeroDivisionError" in console.figures.value)
    monkeypatch.undo()
    console.step()
    wait_for(console, lambda s: s.phase == "paused" and s.step == 51)


def test_anything_but_an_evolver_is_refused():
    with pytest.raises(InputError, match="evolver must be an Evolver, got 3"):
        Console(3)


def test_without_its_libraries_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("m2n2lab.widgets.notebook")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(InputError, match=r"ipywidgets, which is not installed; run: .*notebooks"):
        _ = lab.Console


def test_hostile_texts_are_shown_as_text(tiny, tiny_seeds):
    console = Console(Evolver(tiny, tiny_seeds, rng=0), title="<script>alert(1)</script>")
    try:
        titles = [w.value for w in _instances.values() if isinstance(w, ipywidgets.HTML)]
        assert any("&lt;script&gt;" in text for text in titles)
        assert not any("<script" in text for text in titles)
    finally:
        console.close()


class Result:
    """What a kernel reports of a cell that has ended."""

    def __init__(self, error):
        self.error_in_exec = error


@pytest.fixture
def kernel(monkeypatch):
    """Run the test as the kernel of a notebook; returns what is called after each cell."""
    cell_ended = []

    def register(name, call):
        assert name == "post_run_cell"
        cell_ended.append(call)

    def unregister(name, call):
        cell_ended.remove(call)

    events = SimpleNamespace(register=register, unregister=unregister)
    shell, loop = SimpleNamespace(kernel=True, events=events), asyncio.new_event_loop()
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    monkeypatch.setattr(asyncio, "get_event_loop", lambda: loop)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as between two cells
    yield cell_ended
    signal.signal(signal.SIGINT, handler)
    loop.close()


def test_a_cell_that_is_interrupted_pauses_and_later_cells_do_not(kernel):
    interrupts, paused = Interrupts(), []
    end = interrupts.subscribe(lambda: paused.append(1))
    (cell_ended,) = kernel
    cell_ended(Result(KeyboardInterrupt()))
    cell_ended(Result(ValueError()))
    cell_ended(Result(None))
    assert paused == [1]
    end()
    assert kernel == []
    interrupts.pause()
    assert paused == [1]


def test_an_interrupt_between_two_cells_pauses(kernel):
    interrupts, paused = Interrupts(), []
    end = interrupts.subscribe(lambda: paused.append(1))
    signal.raise_signal(signal.SIGINT)
    assert paused == [1]
    end()
    signal.raise_signal(signal.SIGINT)
    assert paused == [1]


def test_curves_are_drawn_to_scale_and_gaps_are_left_out(evolver):
    from m2n2lab.analysis.maps import CurvesData, curves_data

    nan = float("nan")
    data = CurvesData(
        *(np.array(row) for row in ([0.0, 10.0], [0, 100], [0, 50], [1, 2], [nan, 30])),
        classes={},
    )
    html = curves_html(data)
    assert 'points="0.0,138.0 520.0,8.0"' in html  # from 0 to 100 %
    assert 'points="520.0,99.0"' in html  # only where it is known
    assert "30.0 %" in html
    start = (np.array([value]) for value in (0.0, 1.0, 2.0, 3.0, nan))
    assert "–" in curves_html(CurvesData(*start, classes={}))
    lines = 4 + len(evolver.task.classes)
    assert curves_html(curves_data(evolver)).count("<polyline") == lines
    named = curves_html(data._replace(classes={"<b>sums": np.array([20.0, 40.0])}))
    assert 'stroke="var(--run1)"' in named
    assert "best, &lt;b&gt;sums <b>40.0 %</b>" in named


def test_the_log_shows_births_and_the_last_death(evolver):
    born = []
    end = evolver.subscribe(lambda generation: generation.accepted and born.append(generation))
    evolver.run(60)
    end()
    html = log_html(born, None)
    assert html.index(f">{born[-1].child}</span>") < html.index(f">{born[-2].child}</span>")
    assert "Nobody was born since" in log_html([], None)


def test_both_themes_are_in_the_style_sheet():
    css = console_css()
    assert "--parent_a: #0072b2" in css
    assert "--parent_a: #56b4e9" in css
    assert "DARK" not in css
    assert "LIGHT" not in css
    assert "<b>m2n2lab</b>x" in title_html("x")
