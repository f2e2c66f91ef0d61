"""Bokeh figures, read in Python or in a browser that shows nothing else."""

import json
import re
import time
from contextlib import contextmanager

import numpy as np
import panel as pn
from bokeh.document import Document

from helpers.pages import PIXEL, answers, free_port


def tick_names(axis):
    """Return the names on an axis, by their places."""
    return dict(json.loads(re.search(r"Map\((.*)\)\.get", axis.formatter.code)[1]))


def drawn(view):
    """Let Panel draw a view as a page does; returns how to get an element's source."""
    view.pane.get_root()
    return lambda name: view.handles[name]["source"].data


def same(source, columns):
    """Check that a source shows columns, with numbers in single precision."""
    for name, values in columns.items():
        seen, wanted = np.asarray(source[name]), np.asarray(values)
        if wanted.dtype.kind in "OU":
            assert seen.tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(seen, wanted, rtol=1e-6)


def watched(view):
    """Draw a view in a document; returns a list of what is sent from now on.

    These are pairs of a model and the names of its columns or property.
    """
    document, sent = Document(), []
    document.add_root(view.pane.get_root())

    def note(event):
        sent.append((event.model, set(event.cols) if hasattr(event, "cols") else event.attr))

    document.callbacks.on_change(note)
    return sent


@contextmanager
def serving(make):
    """Serve what ``make`` returns for each page; yields the address."""
    port = free_port()
    pn.extension()
    server = pn.serve(
        {"/": make},
        address="127.0.0.1",
        port=port,
        websocket_origin=[f"127.0.0.1:{port}"],
        threaded=True,
        show=False,
        verbose=False,
    )
    try:
        for _ in range(300):  # it starts in a thread of its own
            if answers(port):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.stop()


def tooltip_at(page, name, x, y):
    """Return the tooltip of a plot at a place, in the plot's own coordinates."""
    across, down = page.evaluate(PIXEL, [name, x, y])
    page.mouse.move(across + 2, down + 2)
    page.mouse.move(across, down)
    return page.locator(".bk-tooltip-content")
