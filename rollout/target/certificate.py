"""What staging proved, signed with the site's secret so that production accepts nothing else."""

import hmac
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from rollout.errors import Refused

FIELDS = ("release", "commit", "sha256", "flags", "schema", "verdicts", "issued_at", "expires_at")


def issue(secret: str, **fields: Any) -> dict[str, Any]:
    """Return a signed certificate of exactly ``FIELDS``."""
    body = {name: fields[name] for name in FIELDS}
    return body | {"signature": _signature(secret, body)}


def check(certificate: Mapping[str, Any], secret: str, release: str, digest: str, now: float) -> None:
    """Accept a certificate for one artifact.

    :raises Refused: it is forged, expired, for another artifact, or holds a verdict other than passed.
    """
    missing = [name for name in (*FIELDS, "signature") if name not in certificate]
    if missing:
        raise Refused(f"The certificate has no {', '.join(missing)}.", "Prove it again: ./p12 verify")
    body = {name: certificate[name] for name in FIELDS}
    given = str(certificate["signature"]).encode(errors="replace")
    if not hmac.compare_digest(_signature(secret, body).encode(), given):
        raise Refused("The certificate's signature is wrong.", "Prove it again: ./p12 verify")
    if certificate["release"] != release or certificate["sha256"] != digest:
        raise Refused(
            f"The certificate is for {certificate['release']} ({str(certificate['sha256'])[:12]}), "
            f"not for {release} ({digest[:12]}).",
            "Prove this one: ./p12 verify",
        )
    if now >= certificate["expires_at"]:
        age = round((now - certificate["issued_at"]) / 60)
        raise Refused(f"The certificate of {release} is {age} min old and has expired.", "./p12 verify")
    bad = [verdict for verdict in certificate["verdicts"] if verdict["verdict"] != "passed"]
    if bad or not certificate["verdicts"]:
        raise Refused(f"The certificate of {release} proves nothing: {bad or 'no verdict'}.", "./p12 verify")


def _signature(secret: str, body: Mapping[str, Any]) -> str:
    encoded = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(secret.encode(), encoded, sha256).hexdigest()
