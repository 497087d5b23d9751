"""Production accepts what staging proved, whole, fresh and for this artifact, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.errors import Refused
from rollout.target.certificate import FIELDS, check, issue, private_key, public_key, trusted_key
from rollout.target.target import Target

PRIVATE = "11" * 32
PUBLIC = public_key(PRIVATE)
RELEASE, DIGEST = "a" * 12, "d" * 64
NOW = 1_800_000_000.0
PASSED = {"check": "burst", "verdict": "passed", "summary": "no deadlock"}


def certificate(private: str = PRIVATE, **changes: Any) -> dict[str, Any]:
    fields = {
        "release": RELEASE,
        "commit": "a" * 40,
        "sha256": DIGEST,
        "flags": {"P12_ENABLE_ADVISORY_LOCKS": "1"},
        "schema": "0002",
        "verdicts": [PASSED],
        "issued_at": NOW - 600,
        "expires_at": NOW + 600,
    }
    return issue(private, **fields | changes)


def accepted(paper: dict[str, Any]) -> None:
    check(paper, PUBLIC, RELEASE, DIGEST, NOW)


def test_a_certificate_is_the_same_after_being_sent_as_json_in_another_order() -> None:
    paper = certificate()

    sent = json.loads(json.dumps(paper, sort_keys=True))

    assert sent == paper
    accepted(sent)


def test_another_key_signs_nothing() -> None:
    with pytest.raises(Refused, match="signature is wrong"):
        accepted(certificate("22" * 32))


def test_who_can_verify_cannot_sign() -> None:
    with pytest.raises(Refused, match="signature is wrong"):
        accepted(certificate(PUBLIC))


def test_production_trusts_the_key_it_was_told_and_staging_its_own(tmp_path: Path) -> None:
    staging, production = (Target(name, tmp_path / name, {}) for name in ("staging", "production"))
    for target in (staging, production):
        target.steering.mkdir(parents=True)
    with pytest.raises(Refused, match="production does not know staging's public key"):
        trusted_key(production)

    (production.steering / "certificate.pub").write_text(public_key(private_key(staging)))

    assert trusted_key(production) == trusted_key(staging)
    assert private_key(staging) == private_key(staging)
    assert (staging.steering / "certificate.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_can_be_changed_after_signing(field: str) -> None:
    paper = certificate()
    paper[field] = 0 if isinstance(paper[field], float) else [PASSED, PASSED]

    with pytest.raises(Refused, match="signature is wrong"):
        accepted(paper)


@given(st.text(max_size=70))
def test_no_other_signature_is_accepted(guess: str) -> None:
    paper = certificate()
    if guess == paper["signature"]:
        return
    with pytest.raises(Refused):
        accepted(paper | {"signature": guess})


@pytest.mark.parametrize("field", [*FIELDS, "signature"])
def test_a_missing_field_is_named(field: str) -> None:
    paper = certificate()
    del paper[field]

    with pytest.raises(Refused, match=f"The certificate has no {field}"):
        accepted(paper)


@pytest.mark.parametrize("paper", [{}, {"release": RELEASE}])
def test_hardly_a_certificate_is_refused(paper: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="The certificate has no"):
        accepted(paper)


@pytest.mark.parametrize("change", [{"release": "b" * 12}, {"sha256": "e" * 64}])
def test_a_certificate_of_another_artifact_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(Refused, match=f"not for {RELEASE}"):
        accepted(certificate(**change))


def test_it_holds_until_it_expires_and_not_a_moment_longer() -> None:
    check(certificate(expires_at=NOW + 0.001), PUBLIC, RELEASE, DIGEST, NOW)

    with pytest.raises(Refused, match="is 10 min old and has expired"):
        accepted(certificate(expires_at=NOW))


@pytest.mark.parametrize(
    "verdicts",
    [[], [PASSED | {"verdict": "failed"}], [PASSED, PASSED | {"verdict": "unknown"}]],
    ids=["none", "failed", "unknown"],
)
def test_a_certificate_that_proves_nothing_is_refused(verdicts: list[dict[str, str]]) -> None:
    with pytest.raises(Refused, match="proves nothing"):
        accepted(certificate(verdicts=verdicts))


def test_every_refusal_says_how_to_prove_it() -> None:
    bad: list[Callable[[], dict[str, Any]]] = [
        dict,
        lambda: certificate("22" * 32),
        lambda: certificate(release="b" * 12),
        lambda: certificate(expires_at=NOW),
        lambda: certificate(verdicts=[]),
    ]
    for make in bad:
        with pytest.raises(Refused) as raised:
            accepted(make())
        assert "./p12 verify" in raised.value.hint


def test_a_field_it_does_not_know_is_neither_signed_nor_kept() -> None:
    assert certificate(more="x").keys() == {*FIELDS, "signature"}
    with pytest.raises(KeyError):
        issue(PRIVATE, release=RELEASE)
