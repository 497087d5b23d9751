"""Judge a watched window from its samples alone, the same live and offline. It never reads the world."""
