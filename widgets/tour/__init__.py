"""The guided tour through a first merge."""
