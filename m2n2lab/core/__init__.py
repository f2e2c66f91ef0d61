"""The method: task, archive, proposals and verdicts, evolver."""
