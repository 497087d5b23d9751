"""Run the old release beside the new one on a migrated copy: the way back, proven. It never touches live data."""
