"""Serving the dashboard on an address of one's own, loopback unless told otherwise."""

from __future__ import annotations

import socket
import sys

import panel as pn

from m2n2lab.errors import InputError
from m2n2lab.settings import Settings

from .dashboard import dashboard


def check_port(host: str, port: int) -> None:
    """See that a port can be listened on.

    Raises:
        InputError: no port number, taken, not allowed, or no such address.
    """
    if not 0 < port < 65536:
        raise InputError(f"A port must be from 1 to 65535, but {port} came; try 5006.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InputError(
            f"The dashboard cannot listen on {host} port {port}: {error.strerror or error}; end "
            f"what uses it or choose another one with --port."
        ) from error


def serve_dashboard(
    settings: Settings, host: str, port: int, origins: list[str], show: bool
) -> None:
    """Serve the dashboard until interrupted; prints its address once it answers.

    Args:
        settings: the search that each page starts with.
        host, port: where to listen.
        origins: ``host:port`` of further pages that may open a websocket here.
        show: open the page in a browser.

    Raises:
        InputError: a port that cannot be listened on.
    """
    check_port(host, port)
    task = settings.make_task()  # bad data shows now, and pages open sooner
    local = [f"localhost:{port}", f"127.0.0.1:{port}"]
    pn.extension()
    server = pn.serve(
        {"/": lambda: dashboard(settings, task)},
        address=host,
        port=port,
        websocket_origin=list(dict.fromkeys([*local, f"{host}:{port}", *origins])),
        show=show,
        start=False,
        title="m2n2lab",
        # A page that was closed ends its search after ten seconds. Not sooner: the time also
        # runs while a slow browser still loads scripts, and a session that it comes too late for
        # is made anew without a page, which then looks for its style sheets on the internet.
        check_unused_sessions_milliseconds=1_000,
        unused_session_lifetime_milliseconds=10_000,
        verbose=False,
    )
    server.start()
    shown = "localhost" if host in ("127.0.0.1", "::1") else host
    print(f"m2n2lab is at http://{shown}:{port} (Ctrl-C ends it)", flush=True)
    try:
        server.run_until_shutdown()
    finally:
        sys.stdout.flush()
