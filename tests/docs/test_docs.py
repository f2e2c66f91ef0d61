import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import m2n2lab as lab
from m2n2lab.cli.entry import app
from m2n2lab.core.methods import registry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "course" not in path.parts)


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)


def pages_with(language):
    found = [page for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize(
        "page", found, ids=[str(page.relative_to(DOCS)) for page in found]
    )


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "METHODS", registry.METHODS.copy())
    monkeypatch.chdir(tmp_path)


@pages_with("python")
@pytest.mark.usefixtures("elsewhere")
def test_the_python_of_a_page_runs_from_top_to_bottom(page):
    names = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


@pages_with("sh")
@pytest.mark.usefixtures("elsewhere")
def test_the_commands_of_a_page_succeed(page):
    for block in blocks(page, "python"):
        with contextlib.redirect_stdout(None):
            exec(compile(block, page.name, "exec"), {"__name__": "page"})
    for line in "\n".join(blocks(page, "sh")).replace("\\\n", "").splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "m2n2lab"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output


def test_every_public_name_is_in_the_reference():
    reference = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    documented = set(re.findall(r"^\.\. (?:auto\w+|data):: m2n2lab\.(\w+)", reference, flags=re.M))
    packages = {"analysis", "store", "tasks", "viz", "zoo"}
    assert set(lab.__all__) - {"__version__"} - packages <= documented
    assert packages <= documented


def test_every_page_is_in_the_contents():
    listed = (DOCS / "index.md").read_text(encoding="utf-8")
    names = [str(page.relative_to(DOCS).with_suffix("")) for page in PAGES]
    assert [name for name in names if name != "index" and f"\n{name}\n" not in listed] == []


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", DOCS, tmp_path / "html"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "html" / "learn" / "course" / "02_competition.html").exists()
