"""The database: one Engine a process, retries, the schema and its migrations. HTTP is never known here."""
