"""Extension slots: filled by the package itself, whatever module is imported first."""

import subprocess
import sys

import pytest

from m2n2lab.core.extensions import extension

SLOTS = ("html", "plots", "recorder", "resume")

ALONE = {
    "m2n2lab.core.spaces.recipe": "print(Recipe.seed(0, 2, 4)._repr_html_()[:4])",
    "m2n2lab.core.records": "print(Proposal((1, 2), 3, 0.5, 0)._repr_html_()[:6])",
    "m2n2lab.core.evolver": "print(Evolver.resume)",
}


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=pytest.mark.slow) if number else name
        for number, name in enumerate(ALONE)
    ],
)
def test_a_process_that_imports_one_module_alone_finds_every_slot_filled(module):
    code = f"from {module} import *; from m2n2lab.core.extensions import extension\n"
    code += f"{ALONE[module]}\nprint([callable(extension(slot)) for slot in {SLOTS}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown, filled = done.stdout.splitlines()
    assert shown.startswith(("<div", "<table", "<bound method"))
    assert filled == "[True, True, True, True]"


def test_every_task_of_the_lab_has_its_slot():
    from m2n2lab.tasks.registry import FACTORIES

    for name in FACTORIES:
        assert extension(f"task_{name}").__name__ == name


def test_a_slot_that_nobody_fills_is_named():
    with pytest.raises(LookupError, match=r"provide\(nothing='module:name'\)"):
        extension("nothing")
