"""Utilities independent of merging: errors, files, text, progress, locks, version."""
