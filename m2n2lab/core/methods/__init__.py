"""Search methods, one algorithm a file, and the registry of their names."""
