"""JupyterLab in a browser: serving it, opening a notebook, running it."""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from helpers.pages import PATIENCE, free_port, serving

TOKEN = "test"


class Served(NamedTuple):
    """A served JupyterLab.

    Attributes:
        address: of its notebooks.
        folder: with their files.
    """

    address: str
    folder: Path


# All cells are in the page, wherever it is scrolled to, and no notification covers a button.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@contextmanager
def served_lab(folder, theme="JupyterLab Light"):
    """Serve JupyterLab on ``folder / "notebooks"``, without the user's own settings."""
    settings = SETTINGS | {"apputils-extension/themes": {"theme": theme}}
    for name, values in settings.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    homes = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    homes += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    own = {name: str(folder / name.lower()) for name in homes}
    own["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--notebook-dir={folder / 'notebooks'}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with serving(command, port, log, env={**os.environ, **own}):
        yield Served(f"http://127.0.0.1:{port}/lab/tree/", folder / "notebooks")


def written(served, name, cells):
    """Write a notebook with cells of code."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_code_cell(cell) for cell in cells]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    (served.folder / name).write_text(nbformat.writes(notebook))


def opened_notebook(page, served, name):
    """Open a notebook and wait for its kernel."""
    page.goto(f"{served.address}{name}?token={TOKEN}&reset")
    status = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    expect(status).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=PATIENCE)
    return page


def chosen(page, menu, entry):
    """Choose an entry of a menu."""
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()


def ran(page, cells):
    """Run all cells and wait until a number of them has run."""
    chosen(page, "Run", "Run All Cells")
    last = page.get_by_text(f"[{cells}]:", exact=True).first
    expect(last).to_be_visible(timeout=3 * PATIENCE)  # a notebook may take a minute by itself
    return page
