"""Measure and judge. Knows HTTP and SQL, and nothing of how a rollout is driven."""
