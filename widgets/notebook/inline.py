"""Inline dashboard: served by the kernel, shown by a notebook in a frame."""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from m2n2lab.config.builders import build_evolver
from m2n2lab.config.names import TASKS
from m2n2lab.config.settings import Settings
from m2n2lab.core.evolver import Evolver, checked_evolver
from m2n2lab.utils.errors import InputError, choose, whole_number
from m2n2lab.viz.theme import THEMES

from ..dashboard import dashboard as page
from ..page.server_log import keep_quiet
from ..runs.browser_sessions import BROWSER_SESSIONS, BrowserSession
from ..runs.runs import Runs

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest
    from tornado.ioloop import IOLoop

    from m2n2lab.core.task import Task
    from m2n2lab.executors import Crew

HOST = "127.0.0.1"
"""Only browsers on the kernel's own machine can reach it."""

START_TIMEOUT_SECONDS = 30.0
"""Most time until the server answers."""

STOP_TIMEOUT_SECONDS = 5.0
"""Most time that the end of Python waits for a page that is being made."""


class Framed:
    """A dashboard in a frame; ``close`` ends its workers, not a search of the notebook.

    Attributes:
        address: to open it in a tab of its own.
    """

    def __init__(self, browser_session: BrowserSession, address: str, height: int) -> None:
        self.address = address
        self._browser_session = browser_session
        self._height = height

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{escape(self.address)}" title="m2n2lab dashboard" width="100%" '
            f'height="{self._height}" style="border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<dashboard at {self.address}>"

    def close(self) -> None:
        """End the workers; returns at once."""
        self._browser_session.shared = False
        self._browser_session.runs.close()
        BROWSER_SESSIONS.close_abandoned()


_port: int | None = None  # of the one server of this process


def dashboard(
    evolver: Evolver | None = None,
    *,
    height: int = 900,
    theme: str = "light",
    executor: Crew | None = None,
) -> Framed:
    """Return the dashboard of a search that cells can go on stepping, to be shown by a cell.

    It is served to the kernel's machine alone, so the browser must run there, or come through a
    JupyterHub whose servers have jupyter-server-proxy.

    Args:
        evolver: the search; digits from two trained specialists by default.
        height: of the frame in pixels.
        theme: ``"light"`` or ``"dark"``.
        executor: workers that score the children of this search; they end when it is closed.

    Raises:
        InputError: no such theme, an invalid height, or an executor without an evolver.
    """
    choose("theme", theme, THEMES)
    height = whole_number("height", height, 1)
    if executor is not None and evolver is None:
        raise InputError(
            "executor scores the children of one search, but there is no evolver; give both."
        )
    settings = Settings(pretrained=True)
    if evolver is not None:
        evolver = checked_evolver(evolver)
        task = evolver.task.name if evolver.task.name in TASKS else "digits"
        label = f"{evolver.task.name} · {evolver.method} · from the notebook"
        settings = Settings(task=task, method=evolver.method, label=label)

    def build(made: Settings, task: Task | None) -> Evolver:
        if evolver is not None and made is settings:
            return evolver
        return build_evolver(made, task)  # of another search, beside it

    runs = Runs(
        recorded=evolver is None,  # a cell may load another state or record the search itself
        build=build,
        executor=lambda made: executor if made is settings else None,
    )
    browser_session = BROWSER_SESSIONS.add(runs, runs.add(settings), shared=True)
    query = urlencode({"browser_session": browser_session.key, "theme": theme})
    return Framed(browser_session, f"{_address(_serve())}?{query}", height)


def _address(port: int) -> str:
    """Return where a browser finds a port of the kernel's machine.

    On a JupyterHub that is the hub's own address, if the server of the notebook passes requests on
    (jupyter-server-proxy).
    """
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if prefix and find_spec("jupyter_server_proxy"):
        return f"{prefix.rstrip('/')}/proxy/{port}/"
    return f"http://{HOST}:{port}/"


def _serve() -> int:
    """Serve dashboards in a thread, once per process; returns the port."""
    global _port
    if _port is None:
        from tornado.ioloop import IOLoop

        from ..server.addresses import Place
        from ..server.handlers import protected_server

        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        keep_quiet()
        loop = IOLoop(make_current=False)

        def serve() -> None:
            # Shown in a frame by pages of any origin; the key in its address keeps strangers out.
            server = protected_server(
                page, Place(HOST, port), ancestors="", admits=_has_key, anywhere=True, loop=loop
            )
            server.start()
            loop.start()

        # A daemon, which Panel's own thread is not: Python would wait for it at the end of a
        # script, and for ever.
        thread = threading.Thread(target=serve, name="m2n2lab dashboards", daemon=True)
        thread.start()
        _await(port)
        atexit.register(_stop, loop, thread)
        _port = port
    return _port


def _has_key(request: HTTPServerRequest) -> bool:
    """Return whether a request names a dashboard that a cell has shown."""
    keys = request.query_arguments.get("browser_session", [])
    return any(BROWSER_SESSIONS.find(key.decode(errors="replace")) for key in keys)


def _stop(loop: IOLoop, thread: threading.Thread) -> None:
    """Stop serving: a page that is still being made when Python ends could abort the process."""
    loop.add_callback(loop.stop)
    thread.join(STOP_TIMEOUT_SECONDS)


def _await(port: int) -> None:
    """Wait until the server, whose thread has just begun, can be reached."""
    until = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
