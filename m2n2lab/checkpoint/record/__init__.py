"""What a merge leaves beside its weights: recipe, card, and the copy on the hub."""
