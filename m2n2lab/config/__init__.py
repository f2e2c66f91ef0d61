"""A search by name: its choices, and what is built from them."""
