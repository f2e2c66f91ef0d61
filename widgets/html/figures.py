"""The key figures of a search, as HTML."""

from __future__ import annotations

from html import escape

from m2n2lab.utils.text import percent

from ..session.snapshot import Snapshot

MAX_MESSAGE_CHARS = 500
"""Shown of a message."""

PHASES = {
    "starting": "starting …",
    "paused": "paused",
    "running": "running",
    "pausing": "pausing …",
    "stepping": "stepping …",
    "failed": "stopped by an error",
    "closed": "closed",
}
"""Labels of the phases of a session."""

FIGURES_CSS = """
.figures { display: flex; flex-wrap: wrap; gap: 2px 16px; text-align: right;
           font-family: system-ui, sans-serif; }
.figures b { display: block; white-space: nowrap; font-size: 16px;
             font-variant-numeric: tabular-nums; }
.figures span { font-size: 11px; color: var(--quiet); white-space: nowrap; }
@media (max-width: 1400px) {
  .figures { gap: 2px 10px; }
  .figures b { font-size: 14px; }
  .figures span { display: block; max-width: 78px; white-space: normal; line-height: 12px; }
}
.message { color: var(--parent_b); max-width: 60ch; text-align: left; overflow-wrap: anywhere; }
"""


def figures_html(snapshot: Snapshot) -> str:
    """Return step, phase and speed, accuracy, coverage and acceptance, and why a search stopped."""
    known = snapshot.saved == snapshot.saved
    saved = (("saved", percent(snapshot.saved), "of scores saved"),) if known else ()
    figures = (
        ("step", f"{snapshot.step:,}", "step"),
        ("phase", PHASES[snapshot.phase], _pace(snapshot)),
        ("test", percent(snapshot.test), f"best (train {percent(snapshot.train)})"),
        ("mean", percent(snapshot.mean), "mean, train"),
        ("coverage", percent(snapshot.coverage), "covered"),
        ("accepted", percent(snapshot.accepted), "children that survived"),
        *saved,
    )
    cells = "".join(
        f'<div><b data-testid="{name}">{escape(value)}</b><span>{escape(label)}</span></div>'
        for name, value, label in figures
    )
    message = escape(snapshot.message[:MAX_MESSAGE_CHARS])
    alert = f'<div class="message" role="alert">{message}</div>' if message else ""
    return f'<div class="figures">{alert}{cells}</div>'


def _pace(snapshot: Snapshot) -> str:
    """Return the speed, or the progress of a model that answers questions."""
    progress = snapshot.answers_so_far
    if progress is not None and snapshot.phase != "failed":
        return progress.words
    speed, in_flight = snapshot.speed, f" · {snapshot.in_flight}" if snapshot.in_flight else ""
    pace = f"{1 / speed:.1f} s a step" if 0.0 < speed < 0.5 else f"{speed:,.0f} steps/s"
    return pace + in_flight
