"""Sessions: waiting for snapshots, and observers of an evolver."""

import time
from urllib.parse import parse_qs, urlsplit

from m2n2lab.widgets.runs.browser_sessions import BROWSER_SESSIONS

PATIENCE = 30.0
"""Seconds; exceeded only if something is broken."""


def wait_for(session, condition):
    """Wait until a snapshot fulfils a condition, and return it."""
    end = time.monotonic() + PATIENCE
    while not condition(snapshot := session.snapshot):
        assert time.monotonic() < end, f"gave up at {snapshot.phase}, step {snapshot.step}"
        time.sleep(0.005)
    return snapshot


def until(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "gave up"
        time.sleep(0.005)


def observers_of(evolver, monkeypatch):
    """Return a list of all observers that subscribe to a search from now on, while they do."""
    observers, subscribe = [], evolver.subscribe

    def subscribed(observer, *arguments, **options):
        end = subscribe(observer, *arguments, **options)
        observers.append(end)

        def ended():
            if end in observers:
                observers.remove(end)
            end()

        return ended

    monkeypatch.setattr(evolver, "subscribe", subscribed)
    return observers


def runs_at(address):
    """Return the runs that the page at an address shows."""
    (key,) = parse_qs(urlsplit(address).query)["browser_session"]
    return BROWSER_SESSIONS.find(key).runs
