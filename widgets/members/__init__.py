"""Pages of single members, and the gallery of what they draw."""
