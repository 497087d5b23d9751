"""How a target's database and its pooler are reached, with the secret of the role that asks.

Where they are somebody else's, each address with its password is one of the target's secrets.
"""

from urllib.parse import quote, urlsplit, urlunsplit

from rollout.target.target import Target

# What the service and its migrations use, and what only looks.
OWNER = "paste12"
MONITOR = "p12_monitor"
ELSEWHERE = {OWNER: "database_url_direct", MONITOR: "database_url_monitor"}


def database_url(target: Target, role: str, database: str = "") -> str:
    """The DSN of ``OWNER`` or ``MONITOR``, straight to Postgres and never through the pooler."""
    if target.is_database_elsewhere:
        given = urlsplit(target.secrets[ELSEWHERE[role]])
        return urlunsplit(given._replace(path=f"/{database}") if database else given)
    secret = target.secrets["database" if role == OWNER else "monitor"]
    place = f"{target.settings['database_address']}:{target.settings['postgres_port']}"
    return f"postgresql://{role}:{quote(secret, safe='')}@{place}/{database or target.settings['database']}"


def console_url(target: Target) -> str:
    """The DSN of the pooler's console; empty where somebody else's pooler has none for us."""
    if target.is_database_elsewhere:
        return target.secrets.get("pgbouncer_url", "")
    place = f"{target.settings['database_address']}:{target.settings['ports']['pgbouncer']}"
    return f"postgresql://{MONITOR}:{quote(target.secrets['monitor'], safe='')}@{place}/pgbouncer"


def pooled_database(target: Target) -> str:
    """The database's name as the pooler has it."""
    return str(target.settings.get("pooled_database") or target.settings["database"])


def redis_url(target: Target) -> str:
    """Where rate limits are counted, with the password."""
    if target.settings.get("redis_elsewhere"):
        return target.secrets["redis_url"]
    place = f"{target.settings['cache_address']}:{target.settings['ports']['redis']}"
    return f"redis://:{quote(target.secrets['redis'], safe='')}@{place}/0"
