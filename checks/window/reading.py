"""How the database is, read straight from it and from its pooler, by a role that may only look."""

from collections.abc import Callable
from typing import Any

import psycopg2.extensions

from checks.base import pgbouncer
from checks.base.postgres import rows

# Sessions that serve clients are what max_connections limits. A dump's transaction is as old as the dump, and
# who only looks, as this does, holds nobody up: a role of its own, unless the tables' owner has to look.
# A role that is not pg_monitor sees of others' sessions only that they are there.
READER = """
WITH reader AS (SELECT CASE WHEN relowner = current_user::regrole THEN NULL ELSE current_user END AS name
                  FROM (SELECT to_regclass('notes') AS notes) AS n LEFT JOIN pg_class ON oid = notes)
"""
OF_CLIENTS = """
datname = current_database() AND backend_type = 'client backend'
AND usename IS DISTINCT FROM (SELECT name FROM reader)
AND application_name NOT IN ('pg_dump', 'p12 backup', 'p12 checks')
"""
SELECT_PRESSURE = f"""{READER}SELECT extract(epoch FROM pg_postmaster_start_time())::text AS started,
       (SELECT coalesce(extract(epoch FROM stats_reset)::text, 'never')
          FROM pg_stat_database WHERE datname = current_database()) AS stats_reset,
       (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks,
       CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE')
            THEN count(*) FILTER (WHERE backend_type = 'client backend')
            ELSE (SELECT sum(numbackends) FROM pg_stat_database WHERE datid <> 0) END::int AS connections,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_others,
       (SELECT sum(CASE WHEN name = 'max_connections' THEN setting::int ELSE -setting::int END)::int
          FROM pg_settings
         WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
       ) AS connection_limit,
       coalesce((SELECT max(extract(epoch FROM clock_timestamp() - waitstart))
                   FROM pg_locks WHERE NOT granted), 0)::float8 AS lock_wait_seconds,
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)) FILTER (WHERE {OF_CLIENTS}),
                0)::float8 AS transaction_seconds,
       to_regclass('view_queue') IS NOT NULL AS has_queue,
       ARRAY(SELECT format('%s on %s', tgname, tgrelid::regclass) FROM pg_trigger
              WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgrelid IN (
                    to_regclass('notes'), to_regclass('view_log'), to_regclass('like_log'),
                    to_regclass('report_log')) ORDER BY 1) AS strangers
  FROM pg_stat_activity
"""  # noqa: S608
# Whoever holds up somebody else's lock, and whoever has the oldest transaction; as its time counts, above.
SELECT_HOLDERS = f"""{READER},
blocking AS (SELECT unnest(pg_blocking_pids(pid)) AS pid FROM pg_locks WHERE NOT granted)
SELECT pid, coalesce(usename, 'nobody') AS user, application_name AS application, state,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds,
       left(regexp_replace(query, '\\s+', ' ', 'g'), 120) AS query, pid IN (TABLE blocking) AS is_blocking
  FROM pg_stat_activity
 WHERE pid IN (TABLE blocking) OR ({OF_CLIENTS})
 ORDER BY xact_start NULLS LAST LIMIT 5
"""  # noqa: S608
# From such an age on it is told who it is.
TELL_SECONDS = 1.0
SELECT_QUEUE_LAG = """
SELECT coalesce((SELECT extract(epoch FROM clock_timestamp() - queued_at) FROM view_queue
                 ORDER BY id LIMIT 1), 0)::float8 AS seconds
"""


def read(
    database: psycopg2.extensions.connection,
    console: psycopg2.extensions.connection | None,
    name: str,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Return a reading as ``tripwires`` takes it; ``name`` is the database's, as the pooler calls it.

    Triggers on the service's tables, which has none, are its ``strangers``; left out where there are none.
    What nobody can read here is left out too, and named in ``unread``: who waits in the line of a pooler
    without a console, and the transactions of others for a role that is not pg_monitor.

    Raises psycopg2.Error, CannotMeasure from the console, or ValueError if it does not say who waits.
    """
    (found,) = rows(database, SELECT_PRESSURE)
    lag = rows(database, SELECT_QUEUE_LAG)[0]["seconds"] if found.pop("has_queue") else 0.0
    if max(found["lock_wait_seconds"], found["transaction_seconds"]) > TELL_SECONDS:
        found["holders"] = [dict(holder) for holder in rows(database, SELECT_HOLDERS)]
    if not found["strangers"]:
        del found["strangers"]
    found["queue_lag_seconds"] = max(lag, 0.0)
    unread = [] if found.pop("sees_others") else ["transaction_seconds"]
    for missing in unread:
        del found[missing]
    if console:
        found["pooler_waiting"] = pgbouncer.waiting(console, name)
    else:
        unread.append("pooler_waiting")
    return {"at": clock(), **found, **({"unread": unread} if unread else {})}
