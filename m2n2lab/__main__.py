"""``python -m m2n2lab``."""

from m2n2lab.cli import program

program()
