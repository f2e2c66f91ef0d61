"""The merge bench: split editor, mix slider, verdict."""
