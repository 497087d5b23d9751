"""A rollout's moves and the rules before them. No move ever runs ahead of its evidence."""
