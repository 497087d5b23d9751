"""A commit made into an artifact, and this checkout into a kit. It never runs on a host of a target."""
