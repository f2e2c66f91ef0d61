"""Tiny specialists that ship with the lab, and the tasks that they were made for."""

from m2n2lab.zoo.language import AGENT, BASE, MATHS, language_pair, shop, word_problems

__all__ = ["AGENT", "BASE", "MATHS", "language_pair", "shop", "word_problems"]
