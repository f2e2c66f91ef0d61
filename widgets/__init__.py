"""The user interface of the lab, installed as ``m2n2lab.widgets``."""
