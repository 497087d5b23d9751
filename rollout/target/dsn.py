"""How a target's database and its pooler are reached, with the secret of the role that asks."""

from urllib.parse import quote

from rollout.target.target import Target

# What the service and its migrations use, and what only looks.
OWNER = "paste12"
MONITOR = "p12_monitor"


def database_url(target: Target, role: str, database: str = "") -> str:
    """The DSN of ``OWNER`` or ``MONITOR``, straight to Postgres and never through the pooler."""
    secret = target.secrets["database" if role == OWNER else "monitor"]
    place = f"{target.settings['database_address']}:{target.settings['postgres_port']}"
    return f"postgresql://{role}:{quote(secret, safe='')}@{place}/{database or target.settings['database']}"


def console_url(target: Target) -> str:
    """The DSN of the pooler's console."""
    place = f"{target.settings['database_address']}:{target.settings['ports']['pgbouncer']}"
    return f"postgresql://{MONITOR}:{quote(target.secrets['monitor'], safe='')}@{place}/pgbouncer"
