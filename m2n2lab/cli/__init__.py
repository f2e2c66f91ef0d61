"""The command line: ``m2n2lab`` and ``python -m m2n2lab``."""

from m2n2lab.cli.entry import app, main

__all__ = ["app", "main"]
