"""Server: the dashboard on an address of this computer, by default loopback.

From elsewhere a page opens by a link with a token, or by a password (see ``access``); ``handlers``
keeps strangers out and lets no page harm the others.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import signal
import socket
import ssl
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import panel as pn
from bokeh.server.server import Server
from tornado.ioloop import PeriodicCallback

from m2n2lab.config.builders import build_task
from m2n2lab.config.settings import Settings
from m2n2lab.store.labels import tidy
from m2n2lab.store.schema import StoreError
from m2n2lab.store.writer import Writer
from m2n2lab.utils.errors import InputError

from ..dashboard import dashboard, open_browser_session
from ..page.server_log import keep_quiet
from ..runs.browser_sessions import BROWSER_SESSIONS, KEEP_SECONDS
from ..runs.roles import Role
from ..runs.run_store import LIMIT_BYTES, keep_small, open_run_store
from ..runs.shared_models import open_shared
from ..session.run_recorder import remove_orphans
from ..session.shutdown import close_all
from ..session.stepper import no_workers
from .access import TOKEN_VARIABLE, Door, Password
from .addresses import Place, origin_of
from .handlers import protected_server
from .window import Window, check_screen

if TYPE_CHECKING:
    from m2n2lab.executors import Crew

TRIM_MILLISECONDS = 15_000
"""Time between two returns of freed memory to the system."""

ABANDONED_MILLISECONDS = 1_000
"""Time between two checks of the runs of closed pages."""

STORE_CHECK_MILLISECONDS = 60_000
"""Time between two checks of the size of the store."""
SWEEP_MILLISECONDS = 300_000
"""Time between two searches for the temporary recordings of processes that were killed."""

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


def check_certificate(cert: Path | None, key: Path | None) -> None:
    """Check that a certificate and its key can be used.

    Raises:
        InputError: one is missing, cannot be read, or does not fit the other.
    """
    if cert is None:
        if key is not None:
            raise InputError("--key must come with --cert, got --key alone; give both.")
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            cert, key, lambda: _no_passphrase()
        )
    except OSError as error:  # ssl.SSLError among them
        reason = error.strerror or getattr(error, "reason", None) or error
        raise InputError(
            f"--cert and --key must be a certificate and its key in PEM format, got {cert} and "
            f"{key or 'no key'}: {reason}; give files that belong together."
        ) from error


def _no_passphrase() -> str:
    raise InputError("--key must be a key without a passphrase, got one with; remove it.")


def checked_prefix(prefix: str) -> str:
    """Return a prefix without slashes at its ends.

    Raises:
        InputError: it is no path.
    """
    bare = prefix.strip("/")
    if not re.fullmatch(r"([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?", bare) or ".." in bare:
        raise InputError(
            f"--prefix must be a path of letters, digits and -._~, got {prefix!r}; give for "
            f"example /lab."
        )
    return bare


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
    by_default: bool = False,
    *,
    prefix: str = "",
    cert: Path | None = None,
    key: Path | None = None,
    proxy_headers: bool = False,
    token: bool | None = None,
    password: Password | None = None,
    output: Path | None = None,
) -> None:
    """Serve the dashboard until interrupted; prints its address once it answers.

    Running searches then end after their current step.

    Args:
        settings: the search that each page starts with.
        host, port: where to listen.
        origins: hosts, with ports, at which pages may be used beside the address that is printed.
        show: open the page in a browser.
        window: open it in a window of its own; closing that ends the server too.
        shared: all pages watch and steer one search, which goes on without them.
        store: where all runs are recorded; by default in temporary files that end with them.
        executor: makes the workers of one run; by default there are none.
        keep_minutes: time that the runs of a closed page are kept, paused.
        by_default: without a ``store``, record into the user's data folder.
        prefix: path under which everything is.
        cert, key: certificate and key for TLS; by default there is none.
        proxy_headers: whether a proxy before the server says who asks, and by which protocol.
        token: whether links have a token; by default where other computers can reach the server.
        password: lets in as a teacher, in place of the token.
        output: the folder into which models are saved from pages; by default none is.

    Raises:
        InputError: the port cannot be used, there is no screen for a window, the store cannot
            be written, an option cannot be used, or the models cannot be merged or scored.
    """
    if window:
        check_screen()
    host = host.strip("[]")
    check_certificate(cert, key)
    allowed = tuple(origin_of(text) for text in origins)
    place = Place(host, port, checked_prefix(prefix), cert is not None, allowed)
    check_port(host, port)
    fixed = os.environ.pop(TOKEN_VARIABLE, None)  # or workers would inherit it
    door = None
    if password is not None or (not place.loopback if token is None else token):
        door = Door(f"m2n2lab-{port}", place.path, password, fixed, viewers=shared)
    remove_orphans()
    task = build_task(settings)  # bad data is reported now, and pages open sooner
    space = open_shared(settings, task) if settings.models else None  # kept for all pages
    for note in () if space is None else space.notes:
        print(f"Note: {note}", file=sys.stderr)
    # Locked while pages come and go, so that no other process records into it meanwhile.
    held = _open_store(store, by_default)
    if held is not None:
        store = held.path
    browser_session = (
        open_browser_session(settings, task, True, store, executor, output) if shared else None
    )
    pn.extension()
    keep_quiet()
    server = protected_server(
        lambda: dashboard(settings, task, browser_session, store, executor, output),
        place,
        door,
        ancestors=" ".join(["'self'", *allowed]),
        use_xheaders=proxy_headers,
        ssl_certfile=None if cert is None else str(cert),
        ssl_keyfile=None if key is None else str(key),
        # A closed page is forgotten after half a minute (its search ends before, see
        # ``browser_sessions``). Not sooner: the time also runs while a slow browser loads scripts,
        # and a page that asks for its session too late gets a new one, which is empty.
        check_unused_sessions_milliseconds=1_000,
        unused_session_lifetime_milliseconds=30_000,
    )
    # Imported objects stay. Searching all 400,000 of them for garbage would stop all pages and
    # searches for a third of a second whenever a few pages have been opened
    # (benchmarks/dashboard_latency.py).
    gc.freeze()
    server.start()
    PeriodicCallback(trim_memory, TRIM_MILLISECONDS).start()
    if held is not None:
        _keep_small(held.path)
        PeriodicCallback(lambda: _keep_small(held.path), STORE_CHECK_MILLISECONDS).start()
    PeriodicCallback(_sweep, SWEEP_MILLISECONDS).start()
    BROWSER_SESSIONS.keep_seconds = 60 * keep_minutes
    PeriodicCallback(BROWSER_SESSIONS.close_abandoned, ABANDONED_MILLISECONDS).start()
    link = _announce(place, door, shared)
    if show:
        server.io_loop.add_callback(webbrowser.open, link)
    opened = _open_window(server, link) if window else None
    try:
        server.run_until_shutdown()
    finally:
        if opened is not None:
            opened.close()
        sys.stdout.flush()
    ended = close_all()
    if held is not None:
        with suppress(InputError):  # next time, then
            tidy(held.path)
        held.close()
    if not ended:  # a server that waits for a long step would seem to hang
        os._exit(0)


def _open_store(store: Path | None, by_default: bool) -> Writer | None:
    """Open the store in which runs are recorded, if there is one, and print where it is.

    Raises:
        InputError: a store that was asked for cannot be written.
    """
    if store is not None:
        return Writer.open(store)
    if not by_default:
        return None
    try:
        held = open_run_store()
    except StoreError as error:
        print(f"Runs are not recorded: {error}", flush=True)
        return None
    print(f"Runs are recorded in {held.path} (--store none: not)", flush=True)
    return held


def _keep_small(store: Path) -> None:
    """Remove runs that are deleted, empty or too many, in a thread of its own."""

    def work() -> None:
        try:
            gone = keep_small(store)
        except InputError as error:
            print(f"Old runs are not removed: {error}", flush=True)
            return
        if gone:
            limit = LIMIT_BYTES // 1024**3
            print(
                f"{gone} of the oldest runs without a name or a pin were removed: runs take at "
                f"most {limit} GB.",
                flush=True,
            )

    threading.Thread(target=work, name="m2n2lab store", daemon=True).start()


def _sweep() -> None:
    """Remove temporary recordings of processes that were killed."""
    remove_orphans()


def _announce(place: Place, door: Door | None, shared: bool) -> str:
    """Print the links to the page; returns the one for this computer."""

    def linked(address: str, role: Role = Role.TEACHER) -> str:
        return address if door is None else door.link(address, role)

    first, *others = place.addresses
    # Without the slash at the end it is shorter, and leads to the same page.
    print(f"m2n2lab is at {_short(linked(first))} (Ctrl-C ends it)", flush=True)
    for address in others:
        print(f"    or at {_short(linked(address))}", flush=True)
    if door is not None:
        if shared:
            address = others[0] if others else first
            print(f"To watch only: {linked(address, Role.VIEWER)}", flush=True)
        if not place.loopback and not place.secure:
            print(
                "Others on the network can read what is sent, links and passwords among it: use "
                "--cert and --key, or a proxy with TLS, where you do not know them.",
                flush=True,
            )
    elif not place.loopback:
        print(
            "Everybody who can reach this address can steer it: --token asks for a link.",
            flush=True,
        )
    return linked(first)


def _short(link: str) -> str:
    return link.rstrip("/")


def trim_memory() -> None:
    """Return freed memory to the system, in some 10 ms.

    GNU's C library keeps freed memory per thread, and each search has its own thread: a server
    would grow by some 3 MB with each search. Other C libraries need no such call.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _open_window(server: Server, link: str) -> Window:
    """Open the page in a window as soon as the server answers; closing that ends the server."""
    loop = server.io_loop
    window = Window(link, lambda: loop.add_callback(loop.stop))
    loop.add_callback(window.open)  # called once the loop runs, so the server answers
    PeriodicCallback(lambda: window.check(server.get_sessions()), POLL_MILLISECONDS).start()
    # Closing the terminal closes the window too, unless the signal is ignored (nohup).
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: loop.add_callback(loop.stop))
    return window
