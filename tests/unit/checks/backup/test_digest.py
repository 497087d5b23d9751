"""What two databases are compared by."""

from checks.backup.digest import schema_sha256


def test_what_a_dump_writes_anew_each_time_is_not_part_of_the_schema() -> None:
    one = "-- Dumped by pg_dump version 15.14\n\\restrict abc\nCREATE TABLE notes ();\n\\unrestrict abc\n"
    two = "-- Dumped by pg_dump version 15.15\n\\restrict xyz\nCREATE TABLE notes ();\n\n\\unrestrict xyz\n"

    assert schema_sha256(one) == schema_sha256(two) != schema_sha256(one.replace("notes", "other"))
