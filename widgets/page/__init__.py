"""The page: its frame, its views together, and when they are refreshed."""
