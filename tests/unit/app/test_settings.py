"""Settings are one validated table; a bad value stops the start and says what to use."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.flags import FLAGS
from app.settings import SETTINGS, Settings, SettingsError, load_settings

DATABASE = {"DATABASE_URL": "postgresql://me:hush@db:5432/p12"}


def test_every_value_but_the_flags_is_a_row_of_the_table() -> None:
    assert {field.name for field in fields(Settings)} - set(SETTINGS) == {"environment_flags"}


def test_every_setting_says_what_it_is_for() -> None:
    assert all(setting.help for setting in SETTINGS.values())
    assert all(flag.help for flag in FLAGS.values())


def test_the_defaults_of_the_contract_hold() -> None:
    settings = load_settings(DATABASE)

    assert (settings.pool_size, settings.max_overflow, settings.pool_timeout) == (8, 8, 10)
    assert (settings.pool_recycle, settings.threads, settings.report_threshold) == (280, 8, 5)
    assert settings.text_limit == 10_000
    assert settings.purge_after_days is None


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_spelling_of_postgres_means_psycopg2(scheme: str) -> None:
    settings = load_settings({"DATABASE_URL": f"{scheme}://me@db/p12"})

    assert settings.database_url == "postgresql+psycopg2://me@db/p12"


@pytest.mark.parametrize("url", ["sqlite:///x.db", "mysql://x", "db:5432", "postgresql+psycopg://x"])
def test_another_database_is_refused_without_repeating_the_url(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"DATABASE_URL": url})

    assert "Use postgresql://" in str(refused.value)
    assert url not in str(refused.value)


def test_without_a_database_the_start_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match=r"DATABASE_URL is not set: .*postgresql://"):
        load_settings({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("P12_THREADS", "abc"),
        ("P12_THREADS", "0"),
        ("P12_DB_POOL_SIZE", "1e3"),
        ("P12_DB_POOL_TIMEOUT", "-1"),
        ("P12_TARGET", "prod"),
        ("P12_SLOT", "red"),
        ("P12_SECURE_HEADERS", "yes"),
        ("P12_LIMIT_VIEW", "many"),
        ("P12_CORS_ALLOWLIST", "paste12.example"),
        ("P12_INTERNAL_ALLOW", "10.0.0.300"),
        ("P12_TRUSTED_HOPS", "2"),
        ("P12_PURGE_AFTER_DAYS", "0"),
        ("P12_ENABLE_VIEW_QUEUE", "yes"),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(DATABASE | {name: value})

    assert f"{name}={value} is not" in str(refused.value)
    assert "Use " in str(refused.value)


def test_the_message_for_a_bad_flag_is_the_one_in_the_house_style() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(DATABASE | {"P12_ENABLE_VIEW_QUEUE": "yes"})

    assert str(refused.value) == (
        "P12_ENABLE_VIEW_QUEUE=yes is not a flag value. Use 0, 1 or a percentage such as 25%."
    )


def test_more_threads_than_connections_are_refused() -> None:
    with pytest.raises(SettingsError, match="Use at most 4 threads"):
        load_settings(DATABASE | {"P12_THREADS": "5", "P12_DB_POOL_SIZE": "3", "P12_DB_MAX_OVERFLOW": "1"})


def test_counting_limits_in_memory_is_refused_in_production_only() -> None:
    assert load_settings(DATABASE | {"P12_TARGET": "staging"}).limiter_storage == "memory://"

    with pytest.raises(SettingsError, match="Use redis://"):
        load_settings(DATABASE | {"P12_TARGET": "production"})


@pytest.mark.parametrize(
    ("name", "older", "field", "value"),
    [
        ("P12_REPORT_THRESHOLD", "REPORT_THRESHOLD", "report_threshold", "7"),
        ("P12_FP_SALT", "FP_SALT", "fingerprint_salt", "grain"),
    ],
)
def test_the_older_name_works_and_the_newer_one_wins(name: str, older: str, field: str, value: str) -> None:
    assert str(getattr(load_settings(DATABASE | {older: value}), field)) == value
    assert str(getattr(load_settings(DATABASE | {older: "9", name: value}), field)) == value


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    secrets = {"P12_FLAGS_SECRET": "s3", "P12_REHEARSAL_SECRET": "s4", "P12_FP_SALT": "s5"}

    shown = repr(load_settings(DATABASE | secrets))

    assert not any(secret in shown for secret in ("hush", "'s3'", "'s4'", "'s5'"))


@given(st.dictionaries(st.sampled_from([s.name for s in SETTINGS.values()]), st.text(max_size=20)))
def test_whatever_the_environment_holds_it_loads_or_is_refused_by_name(environ: dict[str, str]) -> None:
    refusal = None
    try:
        load_settings(DATABASE | environ)
    except SettingsError as error:
        refusal = str(error)

    assert refusal is None or any(setting.name in refusal for setting in SETTINGS.values())
