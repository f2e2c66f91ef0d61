"""Methods whose archive is a grid, so that its size is not free."""

GRIDS = ("map-elites", "cycle-qd")
