"""Browsers that can show the page in a window of its own, and pywebview, which can too."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

WINDOW_SIZE_PIXELS = (1440, 900)
"""Width and height of the window."""

WINDOW_MODULE = "m2n2lab.widgets.server.window"
"""The module that shows pywebview's window when it is run."""


class Browser(NamedTuple):
    """A browser with Chromium's app mode, and where it is installed."""

    name: str
    commands: tuple[str, ...]
    """Its names on the PATH."""
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


class WindowProgram(NamedTuple):
    """A program that shows an address in a window."""

    name: str
    command: Callable[[str, Path], list[str]]
    """Its command line, from the address and the folder of a new profile."""


def is_root() -> bool:
    """Return whether the user is root, for whom Chromium and its derivatives have no sandbox."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def install_paths(browser: Browser, platform: str, environment: Mapping[str, str]) -> list[Path]:
    """Return the usual paths of a browser that is not on the PATH.

    Args:
        browser: to be found.
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
        profile: a folder of the window's own, so that the process serves this window alone.
        root: whether it runs as root, for whom Chromium has no sandbox.
    """
    width, height = WINDOW_SIZE_PIXELS
    return [
        program,
        f"--app={url}",
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
        # A new profile would otherwise ask questions, fetch updates or leave processes running.
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-breakpad",
        "--disable-features=Translate",
        "--password-store=basic",
        "--use-mock-keychain",
        *(["--no-sandbox", "--test-type"] if root else []),  # the second hides the warning
    ]


def window_programs() -> Iterator[WindowProgram]:
    """Yield the installed programs that can show a window, the best first."""
    if find_spec("webview") is not None:
        yield WindowProgram(
            "pywebview", lambda url, profile: [sys.executable, "-m", WINDOW_MODULE, url]
        )
    for browser in BROWSERS:
        found = [shutil.which(command) for command in browser.commands]
        found += [str(path) for path in install_paths(browser, sys.platform, os.environ)]
        program = next((p for p in found if p is not None and Path(p).is_file()), None)
        if program is not None:
            yield WindowProgram(browser.name, partial(app_command, program, root=is_root()))
