"""Table and pages of members, and the gallery of their pictures."""
