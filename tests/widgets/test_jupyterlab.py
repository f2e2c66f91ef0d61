"""Notebook 04 in JupyterLab: a person presses buttons, and cells step the same search."""

import json
import shutil

import pytest
from helpers.lab_pages import chosen, opened_notebook, ran, served_lab, written
from helpers.pages import PATIENCE, ROOT, button, figure, steps
from playwright.sync_api import expect

NOTEBOOK = ROOT / "notebooks" / "04_the_whole_loop.ipynb"
CELLS = sum(cell["cell_type"] == "code" for cell in json.loads(NOTEBOOK.read_text())["cells"])


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory):
    """JupyterLab on a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    shutil.copytree(NOTEBOOK.parent, folder / "notebooks")
    with served_lab(folder) as served:
        yield served


@pytest.mark.slow
def test_notebook_04_runs_and_its_console_steps_runs_pauses_and_is_interrupted(page, jupyterlab):
    ran(opened_notebook(page, jupyterlab, NOTEBOOK.name), CELLS)
    console = page.locator(".m2n2lab-console")
    expect(figure(console, "phase")).to_have_text("paused")
    # The last cell's step is the console's too.
    last = page.locator(".jp-Cell").last.locator("table").first
    shown = int(last.locator("tbody td").first.inner_text().replace(",", ""))
    expect(figure(console, "step")).to_have_text(f"{shown:,}")

    button(console, "Step").click()
    expect(figure(console, "step")).to_have_text(f"{shown + 1:,}")
    a, b = (console.get_by_label(f"Parent {name}", exact=True) for name in "AB")
    living = a.locator("option").all_inner_texts()
    a.select_option(living[3])
    b.select_option(living[5])
    expect(console.locator(".who .a")).to_have_text(f"A {living[3]}")
    expect(console.locator(".who .b")).to_have_text(f"B {living[5]}")
    button(console, "Merge").click()
    expect(figure(console, "step")).to_have_text(f"{shown + 2:,}")
    expect(figure(console, "note")).to_contain_text(f"Child {shown + 3}")

    button(console, "Run").click()
    expect(figure(console, "phase")).to_have_text("running")
    page.wait_for_function(
        "shown => Number(document.querySelector('[data-testid=step]').innerText"
        ".replace(',', '')) > shown + 10",
        arg=shown,
    )
    chosen(page, "Kernel", "Interrupt Kernel")
    expect(figure(console, "phase")).to_have_text("paused")
    rested = steps(console)
    button(console, "×10").click()
    expect(figure(console, "step")).to_have_text(f"{rested + 10:,}")


@pytest.mark.slow
def test_the_dashboard_opens_in_a_cell_and_shows_the_search_that_cells_step(page, jupyterlab):
    cells = (
        "import m2n2lab as lab\n"
        "task = lab.tasks.digits()\n"
        "evolver = lab.Evolver(task, task.random_seeds(2, rng=0), mutation=0.01, rng=0)\n"
        "evolver.run(30)",
        "lab.dashboard(evolver, height=800)",
        "evolver.step().step",
    )
    written(jupyterlab, "dashboard.ipynb", cells)
    ran(opened_notebook(page, jupyterlab, "dashboard.ipynb"), len(cells))
    frame = page.frame_locator("iframe[title='m2n2lab dashboard']")
    expect(figure(frame, "step")).to_have_text("31", timeout=PATIENCE)
    expect(button(frame, "Step")).to_be_enabled()
    button(frame, "Step").click()
    expect(figure(frame, "step")).to_have_text("32")
    page.locator(".jp-Cell").last.click()
    page.keyboard.press("Control+Enter")
    expect(figure(frame, "step")).to_have_text("33")
