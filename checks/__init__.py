"""Programs that measure one thing and judge it. They know HTTP and SQL only, and never change a target."""
