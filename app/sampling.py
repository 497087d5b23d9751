"""Ask the database now and then how it is, so that the metrics can say so without asking it themselves."""

import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from app.metrics import Pressure
from app.service import Service

# A database that hangs answers nothing, so what it said must age by itself.
MISSED_SAMPLES = 3
SELECT_PRESSURE = """
WITH waiting AS (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted)
SELECT (SELECT count(*) FROM waiting) AS lock_waiters,
       -- What waits is one statement, so it began to wait about when that began.
       coalesce((SELECT extract(epoch FROM max(clock_timestamp() - query_start))
                 FROM pg_stat_activity JOIN waiting USING (pid)), 0)::float8 AS lock_wait_seconds,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - queued_at) FROM view_queue
                 ORDER BY id LIMIT 1), 0)::float8 AS queue_lag_seconds
"""


def start_sampling(service: Service) -> None:
    """Sample from now on, in a thread that ends with the process."""
    threading.Thread(target=_sample_for_ever, args=(service,), name="sampling", daemon=True).start()


def take_sample(service: Service) -> Pressure | None:
    """Ask once; None when the database does not answer."""
    try:
        row = service.database.one(SELECT_PRESSURE, {})
    except SQLAlchemyError:
        return None
    good_until = time.monotonic() + MISSED_SAMPLES * service.settings.sample_interval_seconds
    return (
        Pressure(row.lock_waiters, row.lock_wait_seconds, row.queue_lag_seconds, good_until) if row else None
    )


def _sample_for_ever(service: Service) -> None:
    pause = threading.Event()
    while not pause.wait(service.settings.sample_interval_seconds):
        service.metrics.pressure = take_sample(service)
