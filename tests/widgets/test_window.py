"""The lab in a window of its own, with programs that stand in for pywebview and for browsers."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from weakref import WeakSet

import pytest
from helpers.pages import PATIENCE, button, figure, free_port, opened, started
from m2n2lab.widgets.server import browsers, window
from m2n2lab.widgets.server.browsers import (
    BROWSERS,
    app_command,
    install_paths,
    window_programs,
)
from m2n2lab.widgets.server.server import check_port, serve_dashboard
from m2n2lab.widgets.server.window import Window
from m2n2lab.widgets.session import shutdown
from m2n2lab.widgets.session.session import Session
from m2n2lab.widgets.session.shutdown import close_all
from playwright.sync_api import expect

from m2n2lab import Evolver
from m2n2lab.config.settings import Settings
from m2n2lab.utils.errors import InputError

URL = "http://localhost:5006/"
SECONDS = PATIENCE / 1000
OPEN, GONE = [SimpleNamespace(connection_count=1)], []

# Reports that it runs, with its arguments, and ends on request.
OBEDIENT = """
import socket, sys
line = socket.create_connection(("127.0.0.1", {port}))
line.sendall(" ".join(sys.argv).encode())
line.recv(1)
"""
# Starts a second one that ignores signals too, both on the same line.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
""" + OBEDIENT.replace("line.recv(1)", "time.sleep(1000)")

FAILING = """
import sys
print("[12:34:ERROR:env.cc(246)] It does not start. ", file=sys.stderr)
print("[12:35:ERROR:dbus/bus.cc:405] There is no bus.", file=sys.stderr)
sys.exit(1)
"""

# Opens the page as a browser does, and stays until the server has had time to look.
WEBVIEW = """
import asyncio, re, time, urllib.error, urllib.request
from tornado.websocket import websocket_connect
settings = {}
def create_window(title, url, width, height):
    global address
    address = url
def start():
    assert settings["ALLOW_DOWNLOADS"]
    asyncio.run(show())
async def show():
    html = urllib.request.urlopen(address).read().decode()
    token = re.search(r'"token": *"([^"]+)"', html)[1]
    where = address.replace("http", "ws") + "ws"
    page = await websocket_connect(where, subprotocols=["bokeh", token])
    await page.read_message()
    time.sleep(0.5)
    try:
        urllib.request.urlopen(address + "static/none")
    except urllib.error.HTTPError:
        pass
"""


@pytest.fixture
def line():
    """What stand-ins call; closed by them when all of them have ended."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        yield server


@pytest.fixture
def computer(tmp_path, monkeypatch, line):
    """A computer without browsers; returns a function that installs stand-ins."""
    for name in ("bin", "temp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    monkeypatch.setattr(browsers, "find_spec", lambda name: None)

    def install(name, code=""):
        file = tmp_path / "bin" / name
        file.write_text(
            f"#!{sys.executable}\n" + code.replace("{port}", f"{line.getsockname()[1]}")
        )
        file.chmod(0o755)
        return str(file)

    return install


def call(line):
    """Take the call of a stand-in."""
    caller, _ = line.accept()
    caller.settimeout(SECONDS)
    return caller, caller.recv(4096).decode()


def finished():
    """Wait until no window is shown any more."""
    for thread in threading.enumerate():
        if thread.name == "m2n2lab window":
            thread.join(SECONDS)
            assert not thread.is_alive()


def hung_up(caller):
    return caller.recv(1) == b""


@pytest.fixture
def shown(computer):
    """A window and the event of its end; closed after the test."""
    ended = threading.Event()
    shown = Window(URL, ended.set)
    yield shown, ended
    shown.close()


# -- which programs, and how they are called ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "command"), [(b.name, c) for b in BROWSERS for c in b.commands], ids=lambda x: x
)
def test_a_browser_on_the_path_shows_the_address_alone_under_a_profile_of_its_own(
    computer, name, command
):
    path = computer(command)
    (program,) = window_programs()
    first, *flags = program.command(URL, Path("/new"))
    assert (program.name, first) == (name, path)
    assert {f"--app={URL}", "--user-data-dir=/new", "--no-first-run"} <= set(flags)
    assert all(flag.startswith("--") for flag in flags)  # nothing that would open a tab


def test_only_root_does_without_the_sandbox():
    assert "--no-sandbox" in app_command("chromium", URL, Path("/new"), root=True)
    assert "--no-sandbox" not in app_command("chromium", URL, Path("/new"), root=False)


def test_browsers_are_found_where_macos_and_windows_keep_them():
    chrome = next(browser for browser in BROWSERS if browser.name == "Chrome")
    mac = "Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    assert install_paths(chrome, "darwin", {"HOME": "/me"}) == [Path("/", mac), Path("/me", mac)]
    folders = {"PROGRAMFILES": "/p", "LOCALAPPDATA": "/l", "HOME": "/me"}
    exe = "Google/Chrome/Application/chrome.exe"
    assert install_paths(chrome, "win32", folders) == [Path("/p", exe), Path("/l", exe)]
    assert install_paths(chrome, "linux", folders) == []


def test_pywebview_comes_first_then_browsers_in_one_order(computer, monkeypatch):
    for name in ("brave-browser", "msedge", "google-chrome", "chromium", "firefox"):
        computer(name)
    assert [program.name for program in window_programs()] == [
        "Chromium",
        "Chrome",
        "Edge",
        "Brave",
    ]
    monkeypatch.setattr(browsers, "find_spec", lambda name: name == "webview")
    first = next(iter(window_programs()))
    assert first.command(URL, Path("/new")) == [sys.executable, "-m", window.__name__, URL]


# -- one window --------------------------------------------------------------------------------


def test_what_opens_no_window_says_why_and_the_next_one_is_tried(computer, line, shown, capsys):
    computer("chromium", FAILING)
    Path(computer("google-chrome")).write_text("#!/nowhere\n")
    computer("microsoft-edge", "import sys; sys.exit(7)")
    computer("brave", OBEDIENT)
    view, ended = shown
    view.open()
    caller, arguments = call(line)
    assert f"--app={URL}" in arguments
    view.check(OPEN)
    caller.close()
    assert ended.wait(SECONDS)
    assert capsys.readouterr().out.splitlines() == [
        "Chromium opened no window: It does not start.",
        "Chrome opened no window: No such file or directory.",
        "Edge opened no window: it ended with 7.",
        "The window was closed: the lab ends.",
    ]
    assert os.listdir(os.environ["TMPDIR"]) == []


@pytest.mark.parametrize("opens", [True, False])
def test_without_a_program_for_a_window_the_default_browser_opens_and_nothing_ends(
    computer, shown, capsys, monkeypatch, opens
):
    asked = []
    monkeypatch.setattr("webbrowser.open", lambda url: asked.append(url) or opens)
    computer("chromium", FAILING)
    view, ended = shown
    view.open()
    finished()
    view.check(OPEN)
    view.check(GONE)
    assert (asked, ended.is_set()) == ([URL], False)
    printed = capsys.readouterr().out
    assert "needs pywebview or a browser such as Chromium" in printed
    assert "Ctrl-C ends the lab" in printed
    assert (f"open {URL} in one" in printed) is not opens


@pytest.mark.parametrize("code", [OBEDIENT, STUBBORN], ids=["obedient", "stubborn"])
def test_closing_ends_the_program_with_all_that_it_started(
    computer, line, shown, monkeypatch, code
):
    monkeypatch.setattr(window, "CLOSE_TIMEOUT_SECONDS", SECONDS if code is OBEDIENT else 0.2)
    computer("chromium", code)
    view, ended = shown
    view.open()
    caller, _ = call(line)
    view.check(OPEN)
    view.close()
    finished()
    assert hung_up(caller)
    assert not ended.is_set()  # not called by its own close
    assert os.listdir(os.environ["TMPDIR"]) == []


def test_a_window_closed_before_it_is_open_never_opens(computer, line, shown):
    computer("chromium", OBEDIENT)
    view, _ = shown
    view.close()
    view.open()
    finished()
    line.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        line.accept()


@pytest.mark.parametrize("stays", [True, False])
def test_where_browsers_outlive_their_windows_the_page_tells_when_one_is_closed(
    computer, line, shown, monkeypatch, stays
):
    monkeypatch.setattr(window, "BROWSER_OUTLIVES_WINDOW", stays)
    computer("chromium", OBEDIENT)
    view, ended = shown
    view.open()
    caller, _ = call(line)
    view.check(GONE)  # not open yet
    caller.settimeout(0.2)
    with pytest.raises(TimeoutError):  # so it goes on
        caller.recv(1)
    caller.settimeout(SECONDS)
    view.check(OPEN)
    view.check(GONE)
    assert stays is ended.wait(SECONDS if stays else 0.5)
    caller.close()


# -- the server --------------------------------------------------------------------------------


def serve(*options):
    return [sys.executable, "-m", "m2n2lab", "serve", "--threads", "1", *options]


def test_window_and_open_are_one_too_many():
    done = subprocess.run(serve("--window", "--open"), capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--open and --window exclude each other" in done.stderr


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a screen")
def test_without_a_screen_nothing_is_served(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="needs a screen, but neither DISPLAY nor WAYLAND"):
        serve_dashboard(Settings(), "127.0.0.1", 5006, [], show=False, window=True)


@pytest.mark.slow
def test_closing_the_window_of_pywebview_ends_the_server(computer, tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "webview.py").write_text(WEBVIEW)
    port, log = free_port(), tmp_path / "log"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "modules")}
    process = started(serve("--window", "--port", str(port)), port, log, env=environment)
    assert process.wait(SECONDS) == 0, log.read_text()
    assert log.read_text().endswith("The window was closed: the lab ends.\n")
    assert os.listdir(os.environ["TMPDIR"]) == []
    check_port("127.0.0.1", port)  # free again


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_its_window_and_a_search_that_runs(
    page, computer, line, tmp_path, number
):
    computer("chromium", OBEDIENT)
    port, log = free_port(), tmp_path / "log"
    process = started(serve("--window", "--port", str(port)), port, log)
    caller, arguments = call(line)
    assert f"--app=http://localhost:{port}/ " in arguments
    opened(page, f"http://localhost:{port}/")
    button(page, "Run").click()
    expect(figure(page, "step")).not_to_have_text("0", timeout=PATIENCE)
    page.goto("about:blank")  # the search runs on for ten seconds
    process.send_signal(number)
    assert process.wait(SECONDS) == 0, log.read_text()
    assert hung_up(caller)
    assert os.listdir(os.environ["TMPDIR"]) == []
    for failure in ("Traceback", "terminate called"):
        assert failure not in log.read_text()


@pytest.fixture
def no_others(monkeypatch):
    """No sessions but those of the test itself."""
    monkeypatch.setattr(shutdown, "STARTED", WeakSet())


@pytest.mark.usefixtures("no_others")
def test_every_search_is_ended_before_python_is(tiny, tiny_seeds):
    sessions = [Session(lambda: Evolver(tiny, tiny_seeds, rng=0)) for _ in range(2)]
    for session in sessions:
        session.start()
        session.orders.run()
    assert close_all(SECONDS)
    assert [session.snapshot.phase for session in sessions] == ["closed", "closed"]


@pytest.mark.usefixtures("no_others")
def test_a_step_that_takes_long_is_not_waited_for(tiny, tiny_seeds):
    go = threading.Event()
    session = Session(lambda: go.wait() and Evolver(tiny, tiny_seeds, rng=0))
    session.start()
    assert not close_all(0.01)
    go.set()
    assert session.join(SECONDS)
