"""The pass that lets the kit's own traffic through the rate limits, and through nothing else."""

import hashlib
import hmac
from dataclasses import dataclass, field

HEADER = "X-P12-Rehearsal"
# The service takes at most 600 s ahead; the rest is room for clocks that differ.
LIFETIME_SECONDS = 540
RENEW_SECONDS = 60


@dataclass
class Pass:
    """Signs the rehearsal header of a target, anew once a minute.

    The value is ``<expiry unix seconds>.<hex HMAC-SHA256(secret, "<target>:<expiry>")>``.
    """

    secret: str = field(repr=False)
    target: str
    _expiry: int = field(default=0, init=False, repr=False)
    _value: str = field(default="", init=False, repr=False)

    def header(self, now: float) -> str:
        """The header's value at a Unix time."""
        left = self._expiry - now
        if not LIFETIME_SECONDS - RENEW_SECONDS <= left <= LIFETIME_SECONDS:
            self._expiry = int(now) + LIFETIME_SECONDS
            message = f"{self.target}:{self._expiry}".encode()
            signature = hmac.new(self.secret.encode(), message, hashlib.sha256).hexdigest()
            self._value = f"{self._expiry}.{signature}"
        return self._value
