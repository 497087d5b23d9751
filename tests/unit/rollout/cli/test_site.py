"""Commands that are named to be typed work on the site that they are about."""

from pathlib import Path

import pytest

from rollout.cli.engineer_verbs import INVENTORY, VERBS
from rollout.cli.site import INVENTORIES, on_site, site_name


@pytest.mark.parametrize(
    ("inventory", "named"),
    [(INVENTORIES / "local", ""), (INVENTORIES / "lab", "lab"), (Path("/etc/my site"), "/etc/my site")],
)
def test_the_local_site_is_not_named(inventory: Path, named: str) -> None:
    assert site_name(inventory) == named


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("./p12 rollback", "./p12 rollback -i lab"),
        (
            "Look (./p12 status), then: ./p12 flags off",
            "Look (./p12 status -i lab), then: ./p12 flags off -i lab",
        ),
        ("See them: ./p12 flags --target staging", "See them: ./p12 flags -i lab --target staging"),
        ("./p12 maintenance restart postgres", "./p12 maintenance restart postgres -i lab"),
        ("./p12 rollback --target staging -i lab", "./p12 rollback --target staging -i lab"),
        ("./p12 check migrations; ./p12 --help", "./p12 check migrations; ./p12 --help"),
    ],
)
def test_every_command_of_a_site_names_it(text: str, shown: str) -> None:
    assert on_site(text, "lab") == shown
    assert on_site(text, "") == text


def test_just_the_verbs_that_take_a_site_are_given_one() -> None:
    named = {name for name in VERBS if on_site(f"./p12 {name}", "lab") == f"./p12 {name} -i lab"}

    assert named == {name for name, verb in VERBS.items() if INVENTORY in verb.options}
