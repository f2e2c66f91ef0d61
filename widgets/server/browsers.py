"""The ways to a window that a computer may have: pywebview, and browsers' app mode."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

SIZE = (1440, 900)
"""Width and height of the window, in pixels."""

WINDOW = "m2n2lab.widgets.server.window"
"""The module that shows pywebview's window when it is run."""


class Browser(NamedTuple):
    """A browser that has Chromium's app mode, and where it is found."""

    name: str
    commands: tuple[str, ...]
    """What it is called on the PATH."""
    mac: str
    """Name of its application on macOS."""
    windows: str
    """Its program under a folder of programs on Windows."""


BROWSERS = (
    Browser(
        "Chromium", ("chromium", "chromium-browser"), "Chromium", "Chromium/Application/chrome.exe"
    ),
    Browser(
        "Chrome",
        ("google-chrome", "google-chrome-stable", "chrome"),
        "Google Chrome",
        "Google/Chrome/Application/chrome.exe",
    ),
    Browser(
        "Edge",
        ("microsoft-edge", "microsoft-edge-stable", "msedge"),
        "Microsoft Edge",
        "Microsoft/Edge/Application/msedge.exe",
    ),
    Browser(
        "Brave",
        ("brave-browser", "brave"),
        "Brave Browser",
        "BraveSoftware/Brave-Browser/Application/brave.exe",
    ),
    Browser("Vivaldi", ("vivaldi", "vivaldi-stable"), "Vivaldi", "Vivaldi/Application/vivaldi.exe"),
)


class Way(NamedTuple):
    """A program that shows an address in a window."""

    name: str
    command: Callable[[str, Path], list[str]]
    """Its command line, from the address and the folder of a new profile."""


def is_root() -> bool:
    """Return whether this is root, for whom Chromium and what is made of it have no sandbox."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def places(browser: Browser, platform: str, environment: Mapping[str, str]) -> list[Path]:
    """Return where a browser usually lies that is not on the PATH.

    Args:
        browser: which.
        platform: as in ``sys.platform``.
        environment: as in ``os.environ``.
    """
    if platform == "darwin":
        program = f"{browser.mac}.app/Contents/MacOS/{browser.mac}"
        folders = ["/Applications", f"{environment.get('HOME', '')}/Applications"]
        return [Path(folder, program) for folder in folders]
    if platform == "win32":
        names = ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        return [Path(environment[n], browser.windows) for n in names if n in environment]
    return []


def app_command(program: str, url: str, profile: Path, *, root: bool = False) -> list[str]:
    """Return the command line of a browser's app mode.

    Args:
        program: the browser.
        url: what to show.
        profile: a folder of its own, with which the process serves this window alone.
        root: whether it runs as root, for whom Chromium has no sandbox.
    """
    return [
        program,
        f"--app={url}",
        f"--user-data-dir={profile}",
        f"--window-size={SIZE[0]},{SIZE[1]}",
        # Nothing that a new profile would ask, fetch, or leave running.
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-breakpad",
        "--disable-features=Translate",
        "--password-store=basic",
        "--use-mock-keychain",
        *(["--no-sandbox", "--test-type"] if root else []),  # and no bar that warns of it
    ]


def ways() -> Iterator[Way]:
    """Yield the ways to a window that this computer has, the best first."""
    if find_spec("webview") is not None:
        yield Way("pywebview", lambda url, profile: [sys.executable, "-m", WINDOW, url])
    for browser in BROWSERS:
        found = [shutil.which(command) for command in browser.commands]
        found += [str(place) for place in places(browser, sys.platform, os.environ)]
        program = next((p for p in found if p is not None and Path(p).is_file()), None)
        if program is not None:
            yield Way(browser.name, partial(app_command, program, root=is_root()))
