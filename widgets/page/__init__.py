"""The page: its frame, its views, and when they are refreshed."""
