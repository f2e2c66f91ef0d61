"""Preflight: what speaks against a merge, found before any weight is read."""
