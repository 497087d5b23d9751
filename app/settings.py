"""Every setting of the service in one table, read from the environment once, at start."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from app.flags import FLAGS, check_flag
from app.values import (
    BadValueError,
    Reader,
    addresses,
    directory,
    one_of,
    origins,
    policy_additions,
    postgres_url,
    rate_limits,
    ratio,
    seconds,
    storage_uri,
    switch,
    text,
    texts,
    whole,
    whole_or_never,
)

PRODUCTION = "production"


class SettingsError(ValueError):
    """The environment does not describe a service that can start; the text says what to change."""


@dataclass(frozen=True)
class Setting:
    """One row: ``default`` is what an unset or empty variable means, None that it must be set.

    ``also`` is an older name that still works; a ``secret`` is never shown.
    """

    name: str
    default: str | None
    read: Reader
    help: str
    also: str = ""
    secret: bool = False

    def value(self, environ: Mapping[str, str]) -> Any:
        """Read this setting.

        :raises SettingsError: with the name, the value (never a secret's) and what is accepted.
        """
        given = environ.get(self.name) or (environ.get(self.also) if self.also else "") or self.default
        if given is None:
            raise SettingsError(f"{self.name} is not set: {self.help}")
        try:
            return self.read(given)
        except BadValueError as error:
            shown = f"{self.name} has" if self.secret else f"{self.name}={given} is"
            raise SettingsError(f"{shown} not an accepted value. {error}") from None


def row(name: str, default: str | None, read: Reader, help_: str, **more: Any) -> Any:
    """Declare a field of ``Settings`` as a row of the table."""
    setting = Setting(name, default, read, help_, **more)
    return field(metadata={"setting": setting}, repr=not setting.secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table: field, variable, default, what is accepted, what it is for. Secrets are not printed."""

    # The database
    database_url: str = row(
        "DATABASE_URL",
        None,
        postgres_url,
        "the service's Postgres, postgresql://user:password@host:port/name; ./p12 brings one for development",
        secret=True,
    )
    pool_size: int = row("P12_DB_POOL_SIZE", "8", whole(1, 100), "connections kept open")
    max_overflow: int = row("P12_DB_MAX_OVERFLOW", "8", whole(0, 100), "connections beyond the pool")
    pool_timeout: float = row(
        "P12_DB_POOL_TIMEOUT", "10", seconds(0.1, 60), "longest wait for a connection, seconds"
    )
    pool_recycle: int = row(
        "P12_DB_POOL_RECYCLE", "280", whole(1, 86400), "age at which a connection is replaced, seconds"
    )
    lock_timeout_ms: int = row(
        "P12_DB_LOCK_TIMEOUT_MS", "250", whole(10, 10000), "longest wait for a lock, milliseconds"
    )
    retry_budget_ms: int = row(
        "P12_DB_RETRY_BUDGET_MS", "300", whole(0, 10000), "no try starts later than this, milliseconds"
    )

    # Requests
    threads: int = row("P12_THREADS", "8", whole(1, 200), "requests at once, at most pool + overflow")
    text_limit: int = row("P12_TEXT_LIMIT", "10000", whole(1, 1_000_000), "longest note, characters")
    body_limit: int = row("P12_BODY_LIMIT", "262144", whole(1024, 16_777_216), "largest body, bytes")
    report_threshold: int = row(
        "P12_REPORT_THRESHOLD",
        "5",
        whole(1, 1_000_000),
        "reports that remove a note",
        also="REPORT_THRESHOLD",
    )
    fingerprint_salt: str = row(
        "P12_FP_SALT",
        "paste12",
        text,
        "salt of fingerprints made from addresses; the same on every host",
        also="FP_SALT",
        secret=True,
    )
    cors_allowlist: tuple[str, ...] = row("P12_CORS_ALLOWLIST", "", origins, "origins that may call the API")
    public_base_url: tuple[str, ...] = row(
        "PUBLIC_BASE_URL", "", origins, "the service's own address, allowed when there is no allowlist"
    )
    secure_headers: bool = row("P12_SECURE_HEADERS", "1", switch, "send a content security policy and kin")

    # What the public sees
    public_files: str = row(
        "P12_PUBLIC_FILES",
        "",
        directory,
        "directory of the owner's terms, privacy, ads.txt, robots.txt, favicon.ico, images and .well-known",
    )
    csp_additions: tuple[tuple[str, tuple[str, ...]], ...] = row(
        "P12_CSP_ADDITIONS",
        "",
        policy_additions,
        "sources that the content policy allows besides; a directive without any is taken away",
    )
    site_name: str = row("P12_SITE_NAME", "Paste12", text, "what the page calls itself")
    site_texts: tuple[tuple[str, str, str], ...] = row(
        "P12_SITE_TEXTS", "", texts, "sentences of the page in the owner's words, JSON by language and name"
    )

    # Rate limits, each per client address
    limiter_storage: str = row(
        "FLASK_LIMITER_STORAGE_URI",
        "memory://",
        storage_uri,
        "where limits are counted; redis://host:port/0 in production, so that all instances count together",
        secret=True,
    )
    limit_create: str = row("P12_LIMIT_CREATE", "1 per 10 second; 500 per day", rate_limits, "new notes")
    limit_list: str = row("P12_LIMIT_LIST", "60 per minute", rate_limits, "lists")
    limit_view_note: str = row("P12_LIMIT_VIEW_NOTE", "30 per minute", rate_limits, "views of one note")
    limit_view: str = row("P12_LIMIT_VIEW", "300 per hour", rate_limits, "views of all notes")
    limit_alias: str = row("P12_LIMIT_ALIAS", "5 per minute", rate_limits, "uses of /api/view")

    # Its place
    target: str = row("P12_TARGET", "dev", one_of("staging", PRODUCTION, "dev"), "the target it belongs to")
    slot: str = row("P12_SLOT", "blue", one_of("blue", "green"), "the slot it belongs to")
    instance: str = row("P12_INSTANCE", "blue-1", text, "name of this process in its slot")
    bind: str = row("P12_BIND", "127.0.0.1:8000", text, "address and port to listen on")
    trusted_hops: int = row("P12_TRUSTED_HOPS", "1", whole(0, 1), "1 behind the balancer, 0 when direct")
    internal_allow: tuple[str, ...] = row(
        "P12_INTERNAL_ALLOW", "", addresses, "peers allowed to /internal besides loopback"
    )
    flags_file: str = row("P12_FLAGS_FILE", "", text, "path of the slot's flags file")
    flags_secret: str = row("P12_FLAGS_SECRET", "", text, "signs flag documents", secret=True)
    rehearsal_secret: str = row("P12_REHEARSAL_SECRET", "", text, "signs rehearsal headers", secret=True)

    trace_ratio: float = row(
        "P12_TRACE_RATIO",
        "0",
        ratio,
        "share of requests whose spans go to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names; 0 is none",
    )
    sample_interval_seconds: float = row(
        "P12_SAMPLE_INTERVAL_SECONDS", "5", seconds(0.05, 3600), "time between looks at locks and queue"
    )

    # The worker
    worker_poll_seconds: float = row(
        "P12_WORKER_POLL_SECONDS", "0.5", seconds(0.01, 60), "pause when the view queue is empty"
    )
    purge_interval_seconds: float = row(
        "P12_PURGE_INTERVAL_SECONDS", "300", seconds(1, 86400), "time between purges of gone notes"
    )
    purge_after_days: int | None = row(
        "P12_PURGE_AFTER_DAYS",
        "",
        whole_or_never(1, 36500),
        "days after which expired and removed notes are deleted for good, with their logs; unset: never",
    )

    # Flags have a table of their own; these are those that the environment sets.
    environment_flags: Mapping[str, str] = field(default_factory=dict)


SETTINGS: Mapping[str, Setting] = {
    column.name: column.metadata["setting"] for column in fields(Settings) if "setting" in column.metadata
}


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read and validate the whole environment.

    :raises SettingsError: for the first value that is missing or not accepted.
    """
    found = {name: setting.value(environ) for name, setting in SETTINGS.items()}
    settings = Settings(**found, environment_flags=_environment_flags(environ))
    most_threads = settings.pool_size + settings.max_overflow
    if settings.threads > most_threads:
        raise SettingsError(
            f"P12_THREADS={settings.threads} is more than P12_DB_POOL_SIZE + P12_DB_MAX_OVERFLOW = "
            f"{most_threads}: a request could wait for a connection. Use at most {most_threads} threads."
        )
    if settings.target == PRODUCTION and settings.limiter_storage.startswith("memory:"):
        raise SettingsError(
            "FLASK_LIMITER_STORAGE_URI=memory:// counts per process, so production would not limit anyone. "
            "Use redis://host:port/0."
        )
    return settings


def _environment_flags(environ: Mapping[str, str]) -> Mapping[str, str]:
    given = {name: environ[name] for name in FLAGS if environ.get(name)}
    for name, value in given.items():
        if accepted := check_flag(name, value):
            raise SettingsError(f"{name}={value} is not a flag value. {accepted}")
    return given
