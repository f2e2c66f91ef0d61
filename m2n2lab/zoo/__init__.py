"""Zoo: tiny specialists that ship with the lab, and the tasks they were trained for."""

from m2n2lab.zoo.images import image_specialists, shapes
from m2n2lab.zoo.language import AGENT, BASE, MATHS, language_pair, shop, word_problems

__all__ = [
    "AGENT",
    "BASE",
    "MATHS",
    "image_specialists",
    "language_pair",
    "shapes",
    "shop",
    "word_problems",
]
