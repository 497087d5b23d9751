"""The ground of every check: report, formats, command line, Postgres, pgbouncer. It never judges."""
