"""What belongs to a database itself."""

from checks.backup.properties import Properties


def test_a_setting_that_differs_is_named_without_its_value() -> None:
    one = Properties(connection_limit=7, settings=[("", "app.token", "hidden"), ("", "work_mem", "1MB")])
    two = Properties(connection_limit=8, settings=[("", "app.token", "other"), ("", "work_mem", "1MB")])

    assert one.differences(two) == ["connection limit 7, and there 8", "settings app.token"]
    assert one.differences(one) == []
