"""The server of the page, browsers and the desktop window."""
