"""Plots and lists of the page, each refreshed from a snapshot."""
