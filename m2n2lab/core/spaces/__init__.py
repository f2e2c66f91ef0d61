"""What a model is and how two become one: layouts, SLERP, recipes, spaces."""
