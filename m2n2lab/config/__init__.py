"""Config: settings of a search by name, and the task, seeds and evolver built from them."""
