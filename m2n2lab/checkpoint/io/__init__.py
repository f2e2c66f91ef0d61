"""Checkpoint files: headers, tensors, hashes, dtypes, problems; nothing that merges."""
