"""Utilities that know nothing of merging: errors, files, text, progress, locks, version."""
