"""The documentation: these pages, the course and the docstrings, built without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import m2n2lab

HERE = Path(__file__).parent
COURSE = HERE / "learn" / "course"

project = "m2n2lab"
author = "the m2n2lab developers"
version = release = m2n2lab.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # outputs are committed with the course
myst_enable_extensions = ["dollarmath"]  # the equations of the course
myst_dmath_double_inline = True
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures with types are long; docstrings say what matters
napoleon_use_ivar = True  # an attribute is described once, by its class
html_theme = "furo"
html_title = "m2n2lab"

# Nothing of the course or of its outputs is fetched; the pages work from a folder.
shutil.rmtree(COURSE, ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", COURSE, ignore=shutil.ignore_patterns(".*"))
