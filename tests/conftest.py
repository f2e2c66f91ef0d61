"""Fixtures shared by the tests, and how they run."""

import functools
import shutil
import signal

import numpy as np
import pytest
import torch
import typer.main
import typer.testing
from helpers.checkpoints import llama, tokenizer
from helpers.pages import PATIENCE, faults, free_port, lab_command, launched, logged, served
from helpers.stores import small
from hypothesis import settings
from playwright.sync_api import expect, sync_playwright

from m2n2lab import tasks

# Products this small gain nothing from a second thread, and on a machine with two busy cores two
# threads wait for each other.
torch.set_num_threads(1)

# The same examples on every machine and no deadline: a slow moment is not a bug.
settings.register_profile(
    "m2n2lab", derandomize=True, database=None, deadline=None, max_examples=50
)
settings.load_profile("m2n2lab")

# Only ever waited for when something is broken, or the machine is very busy.
expect.set_options(timeout=PATIENCE)


LONG = ("02", "04", "05", "06", "07", "08", "09", "10", "11")
"""Notebooks that take half a minute each, or more."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leave the long notebooks to `make test-all`, and begin with files that take long.

    Whole files go to a worker: with a long one at the end the others would have nothing to do.
    """
    for item in items:
        if item.path.suffix == ".ipynb" and item.path.name.startswith(LONG):
            item.add_marker(pytest.mark.slow)
    long = {item.path for item in items if item.path.suffix == ".ipynb" or _in_a_browser(item)}
    items.sort(key=lambda item: item.path not in long)


def _in_a_browser(item):
    return "browser" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def tiny():
    """Four classes around four corners, 82 weights: a step takes a fraction of a millisecond."""
    draw = np.random.default_rng(1)
    y = np.arange(80) % 4
    X = draw.normal(size=(80, 8)) + 3 * np.eye(8)[y]
    return tasks.Classify(X[:60], y[:60], X[60:], y[60:], hidden=6, name="tiny")


@pytest.fixture(scope="session")
def tiny_seeds(tiny):
    seeds = tiny.random_seeds(2, rng=3, scale=0.5)
    seeds.flags.writeable = False
    return seeds


@pytest.fixture(scope="session")
def digits():
    return tasks.digits()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep what is remembered and recorded away from the user's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("M2N2LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("M2N2LAB_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_program():
    """Make the commands of the program once; typer makes them for every call, a tenth second."""
    made = functools.cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", made)
        patch.setattr(typer.testing, "_get_command", made)
        yield


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Let Ctrl-C and a closed terminal end the tests and what they start, in the background too.

    Shells start background jobs with SIGINT ignored, and nohup with SIGHUP; children inherit that.
    """
    usual = {signal.SIGINT: signal.default_int_handler}
    if hasattr(signal, "SIGHUP"):
        usual[signal.SIGHUP] = signal.SIG_DFL
    ignored = [each for each in usual if signal.getsignal(each) is signal.SIG_IGN]
    for each in ignored:
        signal.signal(each, usual[each])
    yield
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)


# -- stores ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task():
    return small()


@pytest.fixture
def db(tmp_path):
    return tmp_path / "runs.db"


# -- checkpoints -------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Two small Llamas with tokenizers, and cards that state a licence."""
    folder = tmp_path_factory.mktemp("pair")
    for k, name in enumerate("ab"):
        llama(folder / name, k)
        tokenizer(folder / name, [f"t{i}" for i in range(64)])
        (folder / name / "README.md").write_text("---\nlicense: mit\ntags: []\n---\nMine.\n")
    return folder


@pytest.fixture
def seeds(pair, here):
    """The pair as ``a`` and ``b`` in the folder at hand."""
    for name in "ab":
        shutil.copytree(pair / name, name)
    return here


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Two that fit, in one file and in two."""
    folder = tmp_path_factory.mktemp("models")
    for k, name in enumerate("ab"):
        llama(folder / name, k)
    llama(folder / "sharded", 1, shards="20KB")
    return folder


# -- the dashboard in a browser ----------------------------------------------------------------


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """The address of ``m2n2lab serve``; its log must not hold an error in the end."""
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    for _ in served(lab_command(port), port, log):
        yield f"http://localhost:{port}/"
    assert f"http://localhost:{port}" in log.read_text()
    assert "\n".join(logged(log, "traceback")) == ""


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser):
    """One profile, so that only the first page loads the scripts."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(context):
    """A page that fails its test on an outside request, a failed one, or an error."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wrong = faults(page)
    yield page
    page.close()
    assert wrong == []
