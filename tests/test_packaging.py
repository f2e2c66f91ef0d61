"""What a clone, an install and a wheel hold, and what an import costs."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import zipfile
from functools import cache
from pathlib import Path
from pkgutil import iter_modules

import pytest
import yaml
from browsing import free_port, serving
from m2n2lab.widgets.server import server
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from m2n2lab import __version__
from m2n2lab.cli.entry import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
HEAVY = frozenset(["transformers", "diffusers", "panel", "holoviews", "bokeh", "ray", "torch"])
# Without their ".org", so that this file does not contain what it forbids.
REGISTRIES = ["pypi", "pythonhosted", "npmjs", "debian", "anaconda", "download.pytorch"]

# Imports the modules named on the command line in turn, and prints which heavy ones each brought.
IMPORT_EACH = """
import importlib, json, sys
heavy, *names = sys.argv[1:]
watched, brought = set(heavy.split(",")), {}
for name in names:
    before = set(sys.modules)
    try:
        importlib.import_module(name)
        brought[name] = sorted(watched & (set(sys.modules) - before))
    except Exception as error:
        brought[name] = repr(error)
print(json.dumps(brought))
"""


def run(*command, cwd=ROOT):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Programs start what they need; HoloViews comes in through the drawing modules alone.
NOT_CORE = ["m2n2lab.cli", "m2n2lab.__main__", "m2n2lab.widgets"]
NOT_CORE += [f"m2n2lab.viz.{name}" for name in ("accessor", "notebook", "tooltips")]
NOT_CORE += [f"m2n2lab.viz.draw_{name}" for name in ("compare", "landscape", "lineage", "maps")]


def core_modules(folder=ROOT / "m2n2lab", prefix="m2n2lab."):
    for module in iter_modules([str(folder)], prefix):
        if module.name not in NOT_CORE:
            yield module.name
        if module.name not in NOT_CORE and module.ispkg:
            yield from core_modules(folder / module.name.rpartition(".")[2], module.name + ".")


CORE = sorted(core_modules())


@cache
def brought_by(heavy, *names):
    return json.loads(run(sys.executable, "-c", IMPORT_EACH, ",".join(heavy), *names))


@cache
def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("only a clone knows which files are the project's own")
    # A clone may belong to another user than the one who tests it, which git refuses by default.
    listed = run("git", "-c", "safe.directory=*", "ls-files", "-z")
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def pins(python):
    """Versions that constraints.txt asks for under one Python, by name."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), f"{line}: not one exact version"
            if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                name = canonicalize_name(pin.name)
                assert name not in found, f"{line}: pinned twice on Python {python}"
                found[name] = str(pin.specifier)[2:]
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_to_a_version_that_pyproject_allows(python):
    pinned = pins(python)
    for text in sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"]):
        needed = Requirement(text)
        applies = needed.marker is None or needed.marker.evaluate({"python_version": python})
        if applies and needed.name != "m2n2lab":
            assert needed.specifier.contains(pinned[canonicalize_name(needed.name)]), text
    assert pinned["torch"] == "2.13.0"


def test_environment_yml_installs_this_project_with_the_same_constraints_and_pythons():
    python, *rest = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert rest == ["pip", {"pip": ["-c constraints.txt", "-e .[llm,images,notebooks]"]}]
    for text in (python.removeprefix("python "), PROJECT["requires-python"]):
        assert list(SpecifierSet(text).filter(["3.9", *PYTHONS])) == PYTHONS


def test_conda_and_make_install_the_whole_lab():
    *_, (_, project) = (
        each["pip"]
        for each in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
        if isinstance(each, dict)
    )
    makefile = (ROOT / "Makefile").read_text()
    rule = re.search(r"^\.venv/\.lab:.*\n(?:\t.*\n)*?\t(\$\(PIP\).*)", makefile, flags=re.M)[1]
    assert rule.split(" install ")[1].replace("'", "") == f"-c constraints.txt {project}"
    for extra in re.search(r"\[(.*)\]", project)[1].split(","):
        assert PROJECT["optional-dependencies"][extra]


def test_the_image_has_all_that_is_installed_and_asks_for_a_token(monkeypatch):
    lines = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", "").splitlines()
    steps = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    copied = [name for step, rest in steps if step == "COPY" for name in rest.split()[:-1]]
    for name in copied:
        assert any(each == name or each.startswith(f"{name}/") for each in tracked()), name
    package = {name for name in tracked() if name.startswith(("m2n2lab/", "widgets/"))}
    built_from = {*PROJECT["license-files"], PROJECT["readme"], "pyproject.toml"}
    assert all(name.split("/")[0] in copied for name in package | built_from)
    installs = [rest for step, rest in steps if step == "RUN" and "pip install" in rest]
    assert installs[-1].endswith('-c constraints.txt ".[llm,images,notebooks]"')
    assert [rest for step, rest in steps if step == "USER"] == ["lab"]
    (command,) = (json.loads(rest) for step, rest in steps if step == "CMD")
    served = {}
    monkeypatch.setattr(server, "serve_dashboard", lambda *a, **options: served.update(options))
    assert CliRunner().invoke(app, command).exit_code == 0
    assert served["token"] is True


def test_importing_the_package_needs_no_heavy_library():
    assert brought_by(HEAVY, "m2n2lab") == {"m2n2lab": []}


@pytest.mark.parametrize("name", CORE)
def test_a_core_module_needs_no_user_interface_and_no_model_library(name):
    # One process imports all, since each would import torch again.
    assert brought_by(HEAVY - {"torch"} | {"m2n2lab.widgets"}, *CORE)[name] == []


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "7"}])
def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise(own):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    rest = {name: value for name, value in os.environ.items() if name not in names}
    code = "import os, m2n2lab; print(os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=rest | own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(own.values() or ("PASSIVE", "1000"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, and the source distribution that it was built from, unpacked."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys, setuptools.build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
    run(sys.executable, "-c", build, "build_sdist", str(folder), cwd=source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:  # the wheel is made from it alone
        packed.extractall(folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    run(sys.executable, "-c", build, "build_wheel", str(folder), cwd=unpacked)
    (wheel,) = folder.glob("*.whl")
    return wheel, unpacked


def test_a_wheel_holds_every_file_of_the_package_and_its_widgets_and_no_tests(built):
    wheel, _ = built
    files = {f for f in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in f}
    package = {name for name in tracked() if name.startswith("m2n2lab/")}
    assert files == package | {f"m2n2lab/{n}" for n in tracked() if n.startswith("widgets/")}


def test_the_version_is_written_once_and_both_licences_are_in(built):
    wheel, unpacked = built
    assert "version" in PROJECT["dynamic"]
    assert f"m2n2lab-{__version__}-" in wheel.name
    assert unpacked.name == f"m2n2lab-{__version__}"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    names = zipfile.ZipFile(wheel).namelist()
    licences = [name.split("/licenses/")[1] for name in names if "/licenses/" in name]
    assert sorted(licences) == ["LICENSE", "m2n2lab/viz/fonts/OFL.txt"]
    for name in ("CHANGELOG.md", "constraints.txt", "notebooks/01_two_models.ipynb"):
        assert (unpacked / name).is_file()


@pytest.mark.slow
def test_an_installed_wheel_serves_the_lab_and_runs_a_merge_and_a_notebook(built, tmp_path):
    wheel, unpacked = built
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    bin = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin / "python")
    installs = ["-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel)]
    run(sys.executable, *installs)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # All that it depends on, as it is here; but not this checkout, whose own .pth is not read so.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    names = ("PYTHONPATH", "PYTHONHOME")
    env = {name: value for name, value in os.environ.items() if name not in names}

    def started(*command):
        return subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    found = started(python, "-c", "import m2n2lab; print(m2n2lab.__version__, m2n2lab.__file__)")
    assert found.strip() == f"{__version__} {Path(site) / 'm2n2lab' / '__init__.py'}"

    zoo = Path(site, "m2n2lab", "zoo", "language_models")
    program = str(bin / "m2n2lab")
    started(program, "merge", str(zoo / "maths"), str(zoo / "agent"), "-o", "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()

    port = free_port()
    with serving([program, "serve", "--port", str(port)], port, tmp_path / "log", env=env):
        page = urllib.request.urlopen(f"http://localhost:{port}/", timeout=60).read().decode()
    assert "<h1>m2n2lab</h1>" in page

    run_it = (
        "import nbclient, nbformat, sys\n"
        "book = nbformat.read(sys.argv[1], 4)\n"
        "book.cells.append(nbformat.v4.new_code_cell('import m2n2lab; print(m2n2lab.__file__)'))\n"
        "nbclient.NotebookClient(book, kernel_name='python3').execute()\n"
        "print(book.cells[-1].outputs[0]['text'])"
    )
    notebook = str(unpacked / "notebooks" / "01_two_models.ipynb")
    assert started(python, "-c", run_it, notebook).strip() == found.split(" ", 1)[1].strip()


def test_the_workflow_runs_on_every_system_and_python_and_classifiers_promise_no_more():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    pairs = {(os, python) for os in matrix["os"] for python in matrix["python"]}
    assert {python for _, python in pairs} == set(PYTHONS)  # these must pass
    pairs |= {(each["os"], each["python"]) for each in matrix["include"]}
    assert {os for os, _ in pairs} == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert {python for _, python in pairs} == {*PYTHONS, "3.14"}
    promised = [text for text in PROJECT["classifiers"] if ":: Python ::" in text]
    assert {text.rpartition(" ")[2] for text in promised} - {"3"} <= set(PYTHONS)
    assert "Operating System :: POSIX :: Linux" in PROJECT["classifiers"]


def test_no_file_names_a_package_registry():
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content:
            assert [host for host in REGISTRIES if f"{host}.org".encode() in content] == [], name
