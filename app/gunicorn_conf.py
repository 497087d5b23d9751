"""Gunicorn's settings for one instance: one worker process with threads, so one Engine and one pool."""

import os
import sys
from typing import Any

from app.settings import SettingsError, load_settings

try:
    _settings = load_settings(os.environ)
except SettingsError as error:
    sys.exit(str(error))

bind = _settings.bind
workers = 1
worker_class = "gthread"
threads = _settings.threads
# The Engine must be opened after the fork, and a restart must show a bad import at once.
preload_app = False
# Below the service manager's stop timeout, so running requests end by themselves.
graceful_timeout = 20
timeout = 60
# Above the balancer's, so it is never the server that closes an idle connection under a request.
keepalive = 75
# As much as gunicorn takes, since what it refuses it refuses in HTML; the balancer's buffer is the bound.
limit_request_line = 8190
limit_request_field_size = 16384
# The balancer replaces what came from outside, and without one nothing of a client's is believed.
forwarded_allow_ips = "*" if _settings.trusted_hops else ""
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
proc_name = f"paste12-{_settings.target}-{_settings.instance}"
accesslog = None
errorlog = "-"
control_socket_disable = True


def worker_exit(_server: object, worker: Any) -> None:
    """Send the last metrics to the collector, if there is one, and give the connections back."""
    # Not above: the process that only watches this one would load the whole service.
    from app.service import EXTENSION

    if getattr(worker, "wsgi", None) is not None:
        worker.wsgi.extensions[EXTENSION].close()
