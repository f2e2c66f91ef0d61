"""Drawings of what ``analysis`` computes: HoloViews plots, HTML displays, themes, fonts."""
