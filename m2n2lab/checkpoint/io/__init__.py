"""Checkpoint files: headers, tensors, hashes, dtypes, problems; merging itself is above."""
