"""A dashboard over a task with hostile names or one that breaks; arguments: port, which task."""

import sys

import numpy as np
from m2n2lab.widgets.server import server

from m2n2lab.config.settings import Settings
from m2n2lab.tasks import Classify

NAMES = (
    "<script>document.title = 'owned'</script>",
    '"><img src=x onerror="document.title = \'owned\'">',
    "\x1b[31mred\x1b[0m ${1 + 1} {{ 1 + 1 }} @{image}{safe}",
    "long" * 25_000,
)
MODELS_UNTIL_BROKEN = 12
"""Models that the broken task scores."""


class Broken(Classify):
    """A task that fails after a while, with a message that is no markup."""

    def evaluate(self, model):
        self.left = getattr(self, "left", MODELS_UNTIL_BROKEN) - 1
        if self.left < 0:
            raise RuntimeError("the disk is <b>gone</b>")
        return super().evaluate(model)


def odd_task(settings):
    """Return the task that the arguments name, whatever the settings say."""
    draw = np.random.default_rng(1)
    y = np.arange(80) % 4
    X = draw.normal(size=(80, 8)) + 3 * np.eye(8)[y]
    task = Broken if sys.argv[2] == "broken" else Classify
    return task(X[:60], y[:60], X[60:], y[60:], hidden=6, name=NAMES[0], classes=NAMES)


if __name__ == "__main__":
    server.build_task = odd_task
    server.serve_dashboard(Settings(threads=1), "127.0.0.1", int(sys.argv[1]), [], show=False)
