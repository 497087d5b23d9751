"""A pass is good for now, and tells nobody its secret."""

from checks.visitors import limit_pass


def test_a_pass_is_signed_anew_before_it_expires() -> None:
    shown = limit_pass.Pass("secret", "staging")

    first = shown.header(1000)
    same = shown.header(1059)
    later = shown.header(1061)
    before = shown.header(500)

    assert first == same
    assert [header.split(".")[0] for header in (first, later, before)] == ["1540", "1601", "1040"]
    assert "secret" not in repr(shown)
