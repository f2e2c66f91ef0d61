"""The console and the dashboard in a notebook, which the extra ``notebooks`` installs."""

from __future__ import annotations

from importlib.util import find_spec

from m2n2lab.utils.extras import missing

for _package in ("anywidget", "ipywidgets"):
    if find_spec(_package) is None:
        raise missing("m2n2lab in a notebook", _package, "notebooks")

from .console import Console  # noqa: E402
from .inline import dashboard  # noqa: E402

__all__ = ["Console", "dashboard"]
