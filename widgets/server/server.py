"""Server: the dashboard on an address of this computer, by default loopback."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import panel as pn
from bokeh.server.server import Server
from tornado.ioloop import PeriodicCallback

from m2n2lab.config.builders import build_task
from m2n2lab.config.settings import Settings
from m2n2lab.store.writer import Writer
from m2n2lab.utils.errors import InputError

from ..dashboard import dashboard, open_browser_session
from ..page.server_log import keep_quiet
from ..runs.browser_sessions import BROWSER_SESSIONS, KEEP_SECONDS
from ..runs.shared_models import open_shared
from ..session.run_recorder import remove_orphans
from ..session.shutdown import close_all
from ..session.stepper import no_workers
from .window import Window, check_screen

if TYPE_CHECKING:
    from m2n2lab.executors import Crew

TRIM_MILLISECONDS = 15_000
"""Time between two returns of freed memory to the system."""

ABANDONED_MILLISECONDS = 1_000
"""Time between two checks of the runs of closed pages."""

POLL_MILLISECONDS = 200
"""Time between two checks of the open pages, for a window."""


def check_port(host: str, port: int) -> None:
    """Check that the dashboard can listen on a port.

    Raises:
        InputError: it is no port number, in use or not allowed, or there is no such address.
    """
    if not 0 < port < 65536:
        raise InputError(f"port must be an integer in [1, 65535], got {port}; try 5006.")
    try:
        family, type, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, type, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InputError(
            f"The dashboard cannot listen on {host} port {port}: {error.strerror or error}; end "
            f"what uses it or choose another one with --port."
        ) from error


def serve_dashboard(
    settings: Settings,
    host: str,
    port: int,
    origins: list[str],
    show: bool,
    window: bool = False,
    shared: bool = False,
    store: Path | None = None,
    executor: Callable[[Settings], Crew | None] = no_workers,
    keep_minutes: float = KEEP_SECONDS / 60,
) -> None:
    """Serve the dashboard until interrupted; prints its address once it answers.

    Running searches then end after their current step.

    Args:
        settings: the search that each page starts with.
        host, port: where to listen.
        origins: ``host:port`` of further pages that may open a websocket here.
        show: open the page in a browser.
        window: open it in a window of its own; closing that ends the server too.
        shared: all pages watch and steer one search, which goes on without them.
        store: where all runs are recorded; by default in temporary files that end with them.
        executor: makes the workers of one run; by default there are none.
        keep_minutes: time that the runs of a closed page are kept, paused.

    Raises:
        InputError: the port cannot be used, there is no screen for a window, the store cannot
            be written, or the models cannot be merged or scored.
    """
    if window:
        check_screen()
    check_port(host, port)
    remove_orphans()
    task = build_task(settings)  # bad data is reported now, and pages open sooner
    space = open_shared(settings, task) if settings.models else None  # kept for all pages
    for note in () if space is None else space.notes:
        print(f"Note: {note}", file=sys.stderr)
    # Locked while pages come and go, so that no other process records into it meanwhile.
    held = None if store is None else Writer.open(store)
    local = [f"localhost:{port}", f"127.0.0.1:{port}"]
    browser_session = (
        open_browser_session(settings, task, True, store, executor) if shared else None
    )
    pn.extension()
    keep_quiet()
    server = pn.serve(
        {"/": lambda: dashboard(settings, task, browser_session, store, executor)},
        address=host,
        port=port,
        websocket_origin=list(dict.fromkeys([*local, f"{host}:{port}", *origins])),
        show=show,
        start=False,
        title="m2n2lab",
        # A closed page is forgotten after half a minute (its search ends before, see
        # ``browser_sessions``). Not sooner: the time also runs while a slow browser loads scripts,
        # and a page that asks for its session too late gets a new one, which is empty.
        check_unused_sessions_milliseconds=1_000,
        unused_session_lifetime_milliseconds=30_000,
        verbose=False,
    )
    # Imported objects stay. Searching all 400,000 of them for garbage would stop all pages and
    # searches for a third of a second whenever a few pages have been opened
    # (benchmarks/dashboard_latency.py).
    gc.freeze()
    server.start()
    PeriodicCallback(trim_memory, TRIM_MILLISECONDS).start()
    BROWSER_SESSIONS.keep_seconds = 60 * keep_minutes
    PeriodicCallback(BROWSER_SESSIONS.close_abandoned, ABANDONED_MILLISECONDS).start()
    shown = "localhost" if host in ("127.0.0.1", "::1") else host
    print(f"m2n2lab is at http://{shown}:{port} (Ctrl-C ends it)", flush=True)
    opened = _open_window(server, host, port) if window else None
    try:
        server.run_until_shutdown()
    finally:
        if opened is not None:
            opened.close()
        sys.stdout.flush()
    ended = close_all()
    if held is not None:
        held.close()
    if not ended:  # a server that waits for a long step would seem to hang
        os._exit(0)


def trim_memory() -> None:
    """Return freed memory to the system, in some 10 ms.

    GNU's C library keeps freed memory per thread, and each search has its own thread: a server
    would grow by some 3 MB with each search. Other C libraries need no such call.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _open_window(server: Server, host: str, port: int) -> Window:
    """Open the page in a window as soon as the server answers; closing that ends the server."""
    loop = server.io_loop
    local = host in ("127.0.0.1", "::1", "0.0.0.0", "::", "")
    address = "localhost" if local else f"[{host}]" if ":" in host else host
    window = Window(f"http://{address}:{port}/", lambda: loop.add_callback(loop.stop))
    loop.add_callback(window.open)  # called once the loop runs, so the server answers
    PeriodicCallback(lambda: window.check(server.get_sessions()), POLL_MILLISECONDS).start()
    # Closing the terminal closes the window too, unless the signal is ignored (nohup).
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: loop.add_callback(loop.stop))
    return window
