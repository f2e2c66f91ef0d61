"""Tasks that ship with the lab, and ``from_function`` for one's own."""

from m2n2lab.tasks.base import Sample, Task, from_function
from m2n2lab.tasks.classify import Classify
from m2n2lab.tasks.data import digits, mnist

__all__ = ["Classify", "Sample", "Task", "digits", "from_function", "mnist"]
