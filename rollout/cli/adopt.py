"""The look at what runs today: what the site says of it is asked for, and handed to the check."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rollout.errors import RolloutError

CHECKOUT = Path(__file__).resolve().parents[2]
# What goes to Postgres past the pooler: migrations, checks, backups.
DIRECT_CONNECTIONS = 3


def look(options: argparse.Namespace, play: Callable[[], int]) -> tuple[list[str], dict[str, str]]:
    """Return the check to become, and its environment, which alone holds the database's URL.

    ``play`` runs the playbook that writes what the site says into the private file ``options.hand_over``.
    A URL in a file wins over the site's; where there is neither the check asks for one.

    :raises RolloutError: the site does not say.
    """
    site = _site(options, play) if options.inventory else {}
    command = [sys.executable, "-P", "-m", "checks", "adoption", "--target", options.target]
    today_url = options.today_url or site.get("today_url", "")
    command += ["--today-url", today_url] if today_url else []
    if site:
        command += ["--wanted", str(int(site["pool_size"]) + DIRECT_CONNECTIONS)]
        command += ["--purge-after-days", str(site["purge_after_days"])]
    command += ["--json"] if options.json else []
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    if options.database_url_file:
        command += ["--database-url-file", options.database_url_file]
    elif site.get("database_url"):
        environment["DATABASE_URL"] = site["database_url"]
    return command, environment


def _site(options: argparse.Namespace, play: Callable[[], int]) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory() as private:
        options.hand_over = str(Path(private, "site.json"))
        if play():
            raise RolloutError(
                "The site does not say what runs today.",
                "p12_database_url_direct and p12_today_url in its group_vars; or --database-url-file FILE",
            )
        said: Mapping[str, Any] = json.loads(Path(options.hand_over).read_text())
        return said
