"""What a release's migrations do to a schema that an older release uses. A release never judges its own."""
