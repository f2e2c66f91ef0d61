"""One search in a worker thread: its orders, its bench, its recording, its snapshots."""
