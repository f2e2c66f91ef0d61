"""The command line: ``m2n2lab`` and ``python -m m2n2lab``."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING

from m2n2lab.utils.ending_signals import ENDING
from m2n2lab.utils.lazy import lazy_names

if TYPE_CHECKING:
    from m2n2lab.cli.entry import app, main

# Loaded by ``program`` when signals are taken care of.
_HOMES = {"app": "m2n2lab.cli.entry", "main": "m2n2lab.cli.entry"}

__all__ = ["app", "main", "program"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)


def program() -> None:
    """Run the command line as a program, which signals end quietly at any moment.

    Before and after the command itself there is nothing to put in order.
    """
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)
    print_any_text()
    from m2n2lab.cli.entry import main

    main()


def print_any_text() -> None:
    """Let consoles of any encoding take what is printed: "?" for what one lacks, such as α."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="replace")


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
