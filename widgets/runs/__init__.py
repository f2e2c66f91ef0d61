"""The searches of a browser session, and the browser sessions of a server."""
