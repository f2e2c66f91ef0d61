"""Threads, locks, signals and processors."""
