"""Desktop window: pywebview's, else a browser's in app mode, else a page of the default browser.

A window is a child process that runs as long as it is open, so the server knows when it is closed.
Run as a program, with an address, this file is that child for pywebview, whose loop needs the main
thread.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from m2n2lab.utils.errors import InputError

from .browsers import WINDOW_SIZE_PIXELS, is_root, window_programs

CLOSE_TIMEOUT_SECONDS = 5.0
"""Time that a window has to end when it is closed."""

BROWSER_OUTLIVES_WINDOW = sys.platform == "darwin"
"""Whether a browser runs on without windows, so that only its page shows when one was closed."""


class ServedSession(Protocol):
    """A Bokeh session: a page that is open, or was until a moment ago."""

    @property
    def connection_count(self) -> int:
        """Number of browser pages connected to it."""


def check_screen() -> None:
    """Check that there is a screen to open a window on.

    Raises:
        InputError: there is none.
    """
    named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform not in ("win32", "darwin") and not named:
        raise InputError(
            "--window needs a screen, but neither DISPLAY nor WAYLAND_DISPLAY names one; leave it "
            "out and open the page in a browser, from another computer through `ssh -L`."
        )


class Window:
    """The page in a window, and a callback when the window is closed.

    Args:
        url: the page; a server must answer there.
        closed: called, in a thread of the window's own, when a person has closed it.
    """

    def __init__(self, url: str, closed: Callable[[], object]) -> None:
        self._url = url
        self._closed = closed
        self._shown = False  # whether the page has been seen in a browser
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._show, name="m2n2lab window", daemon=True)

    def open(self) -> None:
        """Open it; returns at once."""
        self._thread.start()

    def check(self, sessions: Sequence[ServedSession]) -> None:
        """Check which pages are open; to be called a few times a second."""
        if any(session.connection_count for session in sessions):
            self._shown = True
        elif (
            BROWSER_OUTLIVES_WINDOW and self._shown and not sessions and (process := self._process)
        ):
            _signal(process, signal.SIGTERM)

    def close(self) -> None:
        """Close it, if it is open, and wait until its processes have ended."""
        with self._lock:
            self._closing = True
            process = self._process
        if process is not None:
            _signal(process, signal.SIGTERM)
            try:
                process.wait(CLOSE_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                _kill(process)
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_SECONDS)

    def _show(self) -> None:
        """Try one program after the other, until one has shown the page."""
        for program in window_programs():
            folder = Path(tempfile.mkdtemp(prefix="m2n2lab-"))
            try:
                failure = self._run(program.command(self._url, folder / "profile"), folder / "log")
            finally:
                _remove(folder)
            if self._closing:
                return
            if self._shown:
                print("The window was closed: the lab ends.", flush=True)
                self._closed()
                return
            print(f"{program.name} opened no window: {failure}", flush=True)
        print(
            "A window of its own needs pywebview or a browser such as Chromium, Chrome or Edge; "
            "the page opens in the default browser instead, and Ctrl-C ends the lab.",
            flush=True,
        )
        if not webbrowser.open(self._url):
            print(f"No browser was found: open {self._url} in one.", flush=True)

    def _run(self, command: list[str], log: Path) -> str:
        """Run a program until it ends; returns the last line that it printed."""
        with log.open("wb") as file, self._lock:
            if self._closing:
                return ""
            try:
                self._process = process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    # Ctrl-C in a terminal is for the server, which closes its window itself.
                    start_new_session=True,
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
            except OSError as error:
                return f"{error.strerror or error}."
        status = process.wait()
        with self._lock:
            self._process = None
        _kill(process)
        # A browser always complains about the message bus.
        lines = [
            line.strip()
            for line in log.read_text(errors="replace").splitlines()
            if line.strip() and "dbus/" not in line
        ]
        # Without a browser's time stamp and place in its source.
        return re.sub(r"^\[[^]]*\] *", "", lines[-1]) if lines else f"it ended with {status}."


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process and all that it started."""
    if sys.platform == "win32":
        process.terminate()  # what it started ends with it
    else:
        with suppress(ProcessLookupError, PermissionError):  # all of them have ended
            os.killpg(process.pid, number)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    _signal(process, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def _remove(folder: Path) -> None:
    """Remove a folder that ending processes may still write to."""
    until = time.monotonic() + CLOSE_TIMEOUT_SECONDS
    while folder.exists() and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(0.1)


def main(url: str) -> None:
    """Show an address in a window of pywebview until it is closed."""
    if is_root():
        os.environ.setdefault("QTWEBENGINE_DISABLE_SANDBOX", "1")  # root has none
    try:
        import webview

        webview.settings["ALLOW_DOWNLOADS"] = True
        width, height = WINDOW_SIZE_PIXELS
        webview.create_window("m2n2lab", url, width=width, height=height)
        webview.start()
    except Exception as error:  # shown on the terminal of the server, in one line
        sys.exit(f"{error}")


if __name__ == "__main__":
    main(sys.argv[1])
