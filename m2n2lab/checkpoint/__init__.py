"""Checkpoints on disk: opened by their headers, merged at memory speed, saved with their recipe."""
