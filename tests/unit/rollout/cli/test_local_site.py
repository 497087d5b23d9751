"""A local site is provisioned again when anything that it was made from has changed."""

from pathlib import Path

import pytest

from rollout.cli import local_site

HOSTS = {"h1": {"p12_process_manager": "supervisord"}}


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ([], []),
        (["--check", "--diff", "-v"], []),
        (["-e", "a=1"], ["a=1"]),
        (["-ea=1", "--extra-vars=b=2", "--extra-vars", "c=3"], ["a=1", "b=2", "c=3"]),
        (["--limit", "staging", "-e", "@vars.yml"], ["@vars.yml"]),
    ],
    ids=lambda words: " ".join(words) or "none",
)
def test_variables_are_found_among_ansibles_options(options: list[str], variables: list[str]) -> None:
    assert local_site.variables_in(options) == variables


def test_other_variables_are_another_site(tmp_path: Path) -> None:
    marks = {local_site.fingerprint(tmp_path, HOSTS, variables) for variables in ([], ["a=1"], ["a=2"])}

    assert len(marks) == 3
    assert local_site.fingerprint(tmp_path, HOSTS, ["a=1"]) in marks
