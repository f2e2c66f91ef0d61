import contextlib
import re
import shlex
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from unittest.mock import MagicMock

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


LONG = ("do/runs.md", "do/start.md", "know/rejection.md")
"""Pages whose examples take seconds."""


def pages_with(language):
    names = [page.relative_to(DOCS).as_posix() for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize(
        "page",
        [pytest.param(DOCS / n, id=n, marks=[pytest.mark.slow] * (n in LONG)) for n in names],
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


TRACKERS = {
    "mlflow": ("log_metric", ["mlflow"]),
    "wandb": ("init.return_value.__enter__.return_value.log", ["wandb"]),
    "SummaryWriter": (
        "SummaryWriter.return_value.__enter__.return_value.add_scalar",
        ["torch.utils.tensorboard"],
    ),
}


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.usefixtures("elsewhere")
def test_a_tracker_gets_every_step(tracker, digits, monkeypatch):
    (block,) = (b for b in blocks(DOCS / "do" / "trackers.md", "text") if f"import {tracker}" in b)
    called, (module,) = TRACKERS[tracker]
    stub = MagicMock()
    monkeypatch.setitem(sys.modules, module, stub)
    evolver = lab.Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0)
    exec(block, {"evolver": evolver})
    log = attrgetter(called)(stub)
    assert log.call_count == evolver.generation == 50
    assert evolver.records.column("test")[-1] in [*log.mock_calls[-1].args, *_given(log)]


def _given(log):
    """Return the numbers of a dict that a tracker was given last."""
    return next((list(part.values()) for part in log.mock_calls[-1].args if type(part) is dict), [])


@pytest.mark.usefixtures("elsewhere")
def test_the_example_of_mlflow_runs(digits, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    (block,) = (b for b in blocks(DOCS / "do" / "trackers.md", "text") if "import mlflow" in b)
    evolver = lab.Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0)
    exec(block, {"evolver": evolver})
    (run,) = mlflow.search_runs(output_format="list")
    assert run.data.metrics["test"] == evolver.test


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
