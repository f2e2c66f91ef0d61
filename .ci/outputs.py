"""Run the course and write it back with outputs that a reader sees without running it.

    make outputs                                    # all notebooks, or
    PYTHONPATH=benchmarks .venv/bin/python .ci/outputs.py notebooks/02_competition.ipynb

Plots become pictures: the scripts that make them move weigh megabytes, and whoever runs a cell gets
them anyway. What changes from run to run (times, places of objects, states of widgets) is left out,
so that running again changes nothing where the code has not changed.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
from browsing import ROOT, launched
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from playwright.sync_api import Page, sync_playwright
from stills import picture

NOTEBOOKS = ROOT / "notebooks"
WIDTH = 860
"""Pixels that a plot is wide at most."""
KEPT = ("text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/svg+xml")
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

# Run first in the kernel: a plot is given as a page of its own, of which a picture is taken here.
STILL = """
import holoviews
from bokeh.embed import file_html
from bokeh.resources import INLINE
def still(plot, include=None, exclude=None):
    drawn = holoviews.render(plot, backend="bokeh")
    return {"text/plain": "a plot", "text/html": file_html(drawn, INLINE)}, {"still": True}
holoviews.core.Dimensioned._repr_mimebundle_ = still
"""


def drawn(page: Page, html: str) -> str:
    """Return a PNG, in base64, of a page with one plot."""
    return base64.b64encode(picture(page, html)).decode()


def kept(output: NotebookNode, draw: Callable[[str], str]) -> NotebookNode | None:
    """Return an output as a reader sees it, or ``None`` where there is nothing to see."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if WIDGET in output.get("data", {}):
        output.data = {"text/plain": "(shown once the cell is run)"}
        return output
    data = {kind: value for kind, value in output.get("data", {}).items() if kind in KEPT}
    if output.get("metadata", {}).get("still"):
        data["image/png"] = draw(data.pop("text/html"))
    if "<script" in data.get("text/html", ""):
        del data["text/html"]
    if not set(data) - {"text/plain"} and output.output_type == "display_data":
        return None  # the scripts of a library
    output.data, output.metadata = data, {}
    return output


def joined(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with printed text in one piece, however the kernel sent it."""
    whole: list[NotebookNode] = []
    for output in outputs:
        if whole and output.output_type == whole[-1].output_type == "stream":
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def executed(notebook: NotebookNode, draw: Callable[[str], str]) -> NotebookNode:
    """Return a notebook with the outputs of its cells, run from the first to the last."""
    cells = notebook.cells
    running = nbformat.from_dict({**notebook, "cells": [new_code_cell(STILL), *cells]})
    NotebookClient(
        running,
        timeout=300,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        store_widget_state=False,
    ).execute()
    notebook.cells = running.cells[1:]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
        cell.metadata.pop("execution", None)
        seen = [kept(output, draw) for output in cell.outputs]
        cell.outputs = joined([output for output in seen if output is not None])
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    notebook.metadata = {
        "kernelspec": KERNEL,
        "language_info": {"name": "python"},
        "m2n2lab": {"ran": stamp(notebook)},
    }
    return notebook


def stamp(notebook: NotebookNode) -> str:
    """Return a SHA-256 of a notebook's code, which tells whether its outputs are of this code."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def main(names: Sequence[str]) -> None:
    """Run the notebooks of these names, all by default."""
    paths = [Path(name) for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    with sync_playwright() as playwright:
        browser = launched(playwright)
        page: Any = browser.new_page(viewport={"width": WIDTH, "height": 700})
        for path in paths:
            notebook = executed(nbformat.read(path, as_version=4), lambda html: drawn(page, html))
            path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
            print(f"{path}: {path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
