"""Notebook 04 in JupyterLab: a person presses buttons, and cells step the same search."""

import json
import shutil

import pytest
from pages import ROOT, button, figure, steps
from playwright.sync_api import expect

from notebooks import chosen, opened_notebook, ran, served_lab

NOTEBOOK = ROOT / "notebooks" / "04_the_whole_loop.ipynb"
CELLS = sum(cell["cell_type"] == "code" for cell in json.loads(NOTEBOOK.read_text())["cells"])


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory):
    """The address of JupyterLab on a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    shutil.copytree(NOTEBOOK.parent, folder / "notebooks")
    with served_lab(folder) as address:
        yield address


def test_notebook_04_runs_and_its_console_steps_runs_pauses_and_is_interrupted(page, jupyterlab):
    ran(opened_notebook(page, jupyterlab, NOTEBOOK.name), CELLS)
    console = page.locator(".m2n2lab-console")
    expect(figure(console, "phase")).to_have_text("paused")
    # The last cell's step is the console's too.
    last = page.locator(".jp-Cell").last.locator("table").first
    told = int(last.locator("tbody td").first.inner_text().replace(",", ""))
    expect(figure(console, "step")).to_have_text(f"{told:,}")

    button(console, "Step").click()
    expect(figure(console, "step")).to_have_text(f"{told + 1:,}")
    a, b = (console.get_by_label(f"Parent {name}", exact=True) for name in "AB")
    living = a.locator("option").all_inner_texts()
    a.select_option(living[3])
    b.select_option(living[5])
    expect(console.locator(".who .a")).to_have_text(f"A {living[3]}")
    expect(console.locator(".who .b")).to_have_text(f"B {living[5]}")
    button(console, "Merge").click()
    expect(figure(console, "step")).to_have_text(f"{told + 2:,}")
    expect(figure(console, "note")).to_contain_text(f"Child {told + 3}")

    button(console, "Run").click()
    expect(figure(console, "phase")).to_have_text("running")
    page.wait_for_function(
        "told => Number(document.querySelector('[data-testid=step]').innerText"
        ".replace(',', '')) > told + 10",
        arg=told,
    )
    chosen(page, "Kernel", "Interrupt Kernel")
    expect(figure(console, "phase")).to_have_text("paused")
    rested = steps(console)
    button(console, "×10").click()
    expect(figure(console, "step")).to_have_text(f"{rested + 10:,}")
