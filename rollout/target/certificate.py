"""What staging proved, signed so that production accepts nothing else.

The private key (Ed25519) is made on staging's balancer and never leaves it; production has the public one
alone, so whoever can verify a certificate cannot make one.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from rollout.errors import Refused
from rollout.files import write_bytes
from rollout.target.target import Target

PRIVATE, PUBLIC = "certificate.key", "certificate.pub"

FIELDS = ("release", "commit", "sha256", "flags", "schema", "verdicts", "issued_at", "expires_at")


def private_key(target: Target) -> str:
    """Return the key that signs here, 64 hex digits; it is made when it is first asked for."""
    path = target.steering / PRIVATE
    if not path.exists():
        write_bytes(path, os.urandom(32).hex().encode())
    return path.read_text()


def public_key(private: str) -> str:
    """Return the public half of a private key, 64 hex digits."""
    return str(_signer(private).public_key().public_bytes_raw().hex())


def trusted_key(target: Target) -> str:
    """Return the public key of whoever certifies for this target: staging's, or staging's own.

    :raises Refused: this target was never told.
    """
    if (target.steering / PRIVATE).exists():
        return public_key(private_key(target))
    try:
        return (target.steering / PUBLIC).read_text().strip()
    except FileNotFoundError:
        raise Refused(
            f"{target.name} does not know staging's public key, so it can trust no certificate.",
            "Provision both targets: ./p12 provision",
        ) from None


def issue(private: str, **fields: Any) -> dict[str, Any]:
    """Return a signed certificate of exactly ``FIELDS``."""
    body = {name: fields[name] for name in FIELDS}
    return body | {"signature": _signer(private).sign(_encoded(body)).hex()}


def check(certificate: Mapping[str, Any], public: str, release: str, digest: str, now: float) -> None:
    """Accept a certificate for one artifact.

    :raises Refused: it is forged, expired, for another artifact, or holds a verdict other than passed.
    """
    again = f"Prove it again: ./p12 verify --branch {release}"
    missing = [name for name in (*FIELDS, "signature") if name not in certificate]
    if missing:
        raise Refused(f"The certificate has no {', '.join(missing)}.", again)
    body = {name: certificate[name] for name in FIELDS}
    if not _is_signed(public, body, str(certificate["signature"])):
        raise Refused("The certificate's signature is wrong.", f"Trust it again: ./p12 provision. {again}")
    if certificate["release"] != release or certificate["sha256"] != digest:
        raise Refused(
            f"The certificate is for {certificate['release']} ({str(certificate['sha256'])[:12]}), "
            f"not for {release} ({digest[:12]}).",
            again,
        )
    if now >= certificate["expires_at"]:
        age = round((now - certificate["issued_at"]) / 60)
        raise Refused(f"The certificate of {release} is {age} min old and has expired.", again)
    bad = [verdict for verdict in certificate["verdicts"] if verdict["verdict"] != "passed"]
    if bad or not certificate["verdicts"]:
        raise Refused(f"The certificate of {release} proves nothing: {bad or 'no verdict'}.", again)


def _is_signed(public: str, body: Mapping[str, Any], signature: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
            bytes.fromhex(signature), _encoded(body)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def _signer(private: str) -> Any:
    # Only who certifies waits for it; a rollback never does.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
