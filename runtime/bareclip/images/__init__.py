"""Pictures: what counts as one, and its pixels by a recipe."""
