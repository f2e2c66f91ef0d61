"""Tasks for shopping agents: WebShop, its simulator, its files and its server."""
