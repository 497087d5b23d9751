"""What the service says over HTTP: routes, limits, the page. SQL is never written here."""
