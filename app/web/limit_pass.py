"""The header with which the kit's own traffic passes the rate limits, and nothing else."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable

FURTHEST_EXPIRY_SECONDS = 600
SHAPE = re.compile(r"([0-9]{1,12})\.[0-9a-f]{64}")


def rehearsal_header(secret: str, target: str, expiry: int) -> str:
    """Return the header's value; ``expiry`` is in Unix seconds."""
    mac = hmac.new(secret.encode(), f"{target}:{expiry}".encode(), hashlib.sha256)
    return f"{expiry}.{mac.hexdigest()}"


def is_rehearsal(given: str, secret: str, target: str, now: Callable[[], float] = time.time) -> bool:
    """Check a header: signed for this target, not expired, and not for longer than ten minutes."""
    match = SHAPE.fullmatch(given)
    if not match or not secret:
        return False
    expiry = int(match[1])
    if not now() < expiry <= now() + FURTHEST_EXPIRY_SECONDS:
        return False
    return hmac.compare_digest(rehearsal_header(secret, target, expiry), given)
