"""Run the old release beside the new one on a migrated copy: the way back, proven. Never on live data."""
