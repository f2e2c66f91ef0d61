"""The course: its form, its outputs, and exercises that tell right answers from wrong ones.

That the cells run, and print what they printed, is nbval's: ``--nbval-lax`` in pyproject.toml.
"""

import base64
import io
import re
from itertools import pairwise

import nbformat
import pytest
from helpers.pages import ROOT
from outputs import KEPT, kept, stamp
from PIL import Image

from m2n2lab import METHODS
from m2n2lab.core.methods import registry

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COURSE = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}
LARGEST = 400_000
"""Bytes of a notebook with its outputs."""

SLOW = ("04", "05", "07", "08", "09", "10", "11")
"""Notebooks whose exercise comes after a long search."""


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def prose(text):
    """Return a text without code, equations, links, tags and the number in its title."""
    for other in (
        r"```.*?```",
        r"`[^`]*`",
        r"\$\$.*?\$\$",
        r"\$[^$]*\$",
        r"\[[^]]*\]\([^)]*\)",
        r"<[^>]*>",
        r"\A# \d\d · ",
        "M2N2",
    ):
        text = re.sub(other, "", text, flags=re.S)
    return text


def test_the_readme_links_every_notebook_of_the_course():
    assert [name[:2] for name in COURSE] == [f"{k:02}" for k in range(1, 12)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in PATHS:
        assert len(re.findall(rf"^\| \[.*\]\(notebooks/{path.name}\) \| .+ \|$", readme, re.M)) == 1


@pytest.mark.parametrize("name", COURSE)
def test_a_cell_has_ten_lines_at_most_and_a_notebook_names_its_kernel(name):
    notebook = COURSE[name]
    nbformat.validate(notebook)
    long = [cell.id for cell in code(notebook) if len(cell.source.splitlines()) > 10]
    assert long == []
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", COURSE)
def test_a_text_has_no_number_that_the_code_should_give(name):
    texts = [prose(cell.source) for cell in COURSE[name].cells if cell.cell_type == "markdown"]
    assert [text for text in texts if re.search(r"\d", text)] == []


@pytest.mark.parametrize("name", COURSE)
def test_every_notebook_asks_and_answers_and_has_an_exercise_with_a_check(name):
    cells = COURSE[name].cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert text.count("<details>") == text.count("</details>") >= 2
    assert "**Question" in text
    assert "**Your turn.**" in text
    marks = [cell.metadata.get("m2n2lab", {}) for cell in code(COURSE[name])]
    checks = [k for k, mark in enumerate(marks) if "check" in mark]
    assert checks
    assert all("exercise" in marks[k - 1] for k in checks)


@pytest.mark.parametrize("name", COURSE)
def test_the_outputs_are_of_this_code(name):
    assert COURSE[name].metadata.m2n2lab.ran == stamp(COURSE[name]), "run `make outputs`"
    counts = [cell.execution_count for cell in code(COURSE[name])]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("name", COURSE)
def test_outputs_are_small_and_still_and_show_plots_as_pictures(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert path.stat().st_size <= LARGEST
    seen = outputs(COURSE[name])
    assert all(output.output_type != "error" for output in seen)
    data = [output.data for output in seen if "data" in output]
    assert {kind for each in data for kind in each} <= set(KEPT)
    for text in (each.get("text/html", "") for each in data):
        assert not re.search(r"<script|<iframe|javascript:|\son\w+=", text, re.I)
    pictures = [each["image/png"] for each in data if "image/png" in each]
    assert pictures or name.startswith("07")
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture)))
        assert min(image.size) >= 150
        assert len(image.getcolors(1 << 16)) > 3  # something is drawn


@pytest.mark.parametrize("name", COURSE)
def test_nothing_in_the_outputs_says_where_or_when_they_were_made(name):
    text = "\n".join(
        str(output.get("text", "")) + "".join(map(str, output.get("data", {}).values()))
        for output in outputs(COURSE[name])
    )
    assert not re.search(r"/tmp/|/home/|/root/|0x[0-9a-f]{6,}|/work/", text)


@pytest.mark.parametrize("name", COURSE)
def test_some_output_of_every_notebook_is_compared_with_what_the_code_prints(name):
    compared = [cell for cell in code(COURSE[name]) if "NBVAL_CHECK_OUTPUT" in cell.source]
    assert compared
    assert all(cell.outputs for cell in compared)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * n.startswith(SLOW)) for n in COURSE],
)
def test_an_exercise_takes_no_answer_and_the_right_one_and_refuses_a_wrong_one(
    name, here, capsys, monkeypatch
):
    monkeypatch.setattr(registry, "METHODS", METHODS.copy())  # a notebook may register some
    names = {"__name__": "__main__"}
    cells = code(COURSE[name])
    for cell, check in pairwise(cells):
        exec(cell.source, names)
        if "exercise" not in cell.metadata.get("m2n2lab", {}):
            continue
        answers = cell.metadata.m2n2lab.exercise
        exec(check.source, names)
        assert "in the cell above, run it, then run this one." in capsys.readouterr().out
        exec(answers.wrong, names)
        with pytest.raises(AssertionError, match=r"\w.*[.?]"):
            exec(check.source, names)
        exec(answers.right, names)
        exec(check.source, names)
        assert "Right" in capsys.readouterr().out
        return
    pytest.fail("no exercise")


def output(**data):
    made = nbformat.v4.new_output("display_data", data)
    return nbformat.from_dict(made)


def test_scripts_states_of_widgets_and_warnings_are_left_out_of_outputs():
    def draw(html):
        return f"picture of {html}"

    assert (
        kept(output(**{"application/javascript": "1", "text/html": "<script>1</script>"}), draw)
        is None
    )
    assert kept(nbformat.v4.new_output("stream", name="stderr", text="warning"), draw) is None
    plot = output(**{"text/html": "<script>plot</script>", "text/plain": "a plot"})
    plot.metadata["still"] = True
    assert kept(plot, draw).data == {
        "text/plain": "a plot",
        "image/png": "picture of <script>plot</script>",
    }
    widget = output(**{"application/vnd.jupyter.widget-view+json": {"model_id": "1"}})
    assert set(kept(widget, draw).data) == {"text/plain"}
    table = output(**{"text/html": "<table></table>", "text/plain": "a table"})
    assert kept(table, draw).data["text/html"] == "<table></table>"
