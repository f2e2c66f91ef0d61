"""Numbers about a search, as plain arrays: niches, attraction, landscape, lineage, members."""
