"""What changes a target: traffic, flags, lock, journal, guard, artifact, and the p12 command."""
