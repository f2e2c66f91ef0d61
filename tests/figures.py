"""Looking into Bokeh figures, drawn without a browser."""

import json
import re

import numpy as np
from bokeh.document import Document


def tick_names(axis):
    """Return the names on an axis by their places."""
    return dict(json.loads(re.search(r"Map\((.*)\)\.get", axis.formatter.code)[1]))


def drawn(view):
    """Let Panel draw a view as a page does; returns how to get an element's source."""
    view.pane.get_root()
    return lambda name: view.handles[name]["source"].data


def same(source, columns):
    """See that a source shows columns, numbers in single precision."""
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
