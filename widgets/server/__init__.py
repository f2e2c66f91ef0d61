"""The server of the page, and the desktop window with the browsers that can show it."""
