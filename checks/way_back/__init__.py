"""Run the old release beside the new on a migrated copy: the way back, proven. It never sees live data."""
