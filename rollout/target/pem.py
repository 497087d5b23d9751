"""A certificate with its key in PEM, as HAProxy takes it: read, and refused where it could not serve."""

import base64
import calendar
import re
import time
from pathlib import Path

from rollout.errors import Refused

BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n[A-Za-z0-9+/=\r\n]+?-----END \1-----")
# HAProxy takes no more in one command: tune.bufsize.
MOST_BYTES = 16_000
MOST_READ_BYTES = 1_000_000
UTC_TIME = 0x17
VERSION = 0xA0
READABLE = (
    "Have ACME's deploy hook write the chain and its key into one file that p12_user may read, mode 0400"
)


def read(source: Path) -> bytes:
    """Read and check the owner's file.

    :raises Refused: it cannot be read, or not be used.
    """
    try:
        given = content(source)
    except OSError as error:
        raise Refused(f"{source} cannot be read: {error.strerror or error}.", READABLE) from error
    return checked(given, str(source))


def content(source: Path) -> bytes:
    """Return what is in a file; raises OSError for what is none, or is too large for a certificate."""
    if not source.is_file():
        raise OSError("it is not there" if not source.exists() else "it is no file")
    if source.stat().st_size > MOST_READ_BYTES:
        raise OSError(f"it has more than {MOST_READ_BYTES} bytes")
    return source.read_bytes()


def checked(given: bytes, origin: str) -> bytes:
    """Return the certificates and the key of a PEM file, and nothing else of it.

    :raises Refused: it has no certificate or no key, they are not of each other, or it has expired.
    """
    kinds = [match[1].decode() for match in BLOCK.finditer(given)]
    pem = blocks(given)
    if "CERTIFICATE" not in kinds:
        raise Refused(f"{origin} holds no certificate in PEM.", "Give the chain, then its key, in one file")
    if not any(kind.endswith("PRIVATE KEY") for kind in kinds):
        raise Refused(f"{origin} holds a certificate without its private key.", "Add the key to it")
    if len(pem) > MOST_BYTES:
        raise Refused(f"{origin} holds {len(pem)} bytes (limit {MOST_BYTES}).", "Give one chain and one key")
    _require_pair(pem, origin)
    if (ends := expiry(pem)) <= time.time():
        raise Refused(f"{origin} expired on {day(ends)}.", "Renew it")
    return pem


def blocks(given: bytes) -> bytes:
    """Return what counts of a PEM file, whatever stands between it."""
    return b"\n".join(match[0] for match in BLOCK.finditer(given)).replace(b"\r", b"") + b"\n"


def _require_pair(pem: bytes, origin: str) -> None:
    import ssl  # only here: status need not wait for them
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem)
        file.flush()
        try:
            # Without a password it would ask for one.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file.name, password=lambda: b"-")
        except (ssl.SSLError, ValueError) as error:
            why = getattr(error, "reason", None) or str(error)
            said = {"KEY_VALUES_MISMATCH": "its key is not that of its first certificate"}.get(why, why)
            raise Refused(f"{origin} cannot be used: {said}.", "Give the chain, then its key") from error


def expiry(pem: bytes) -> float:
    """Return when the first certificate of a PEM file ends, in Unix seconds (RFC 5280, section 4.1)."""
    match = re.search(rb"-----BEGIN CERTIFICATE-----(.+?)-----END", pem, re.DOTALL)
    der = base64.b64decode(match[1]) if match else b""
    _, at, _ = _field(der, 0)
    _, at, _ = _field(der, at)
    before_validity = 4 if der[at] == VERSION else 3
    for _ in range(before_validity):
        at = _field(der, at)[2]
    _, at, _ = _field(der, at)
    tag, start, end = _field(der, _field(der, at)[2])
    year = "%y" if tag == UTC_TIME else "%Y"
    return calendar.timegm(time.strptime(der[start:end].decode(), f"{year}%m%d%H%M%SZ"))


def _field(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the field that begins at a byte, and where its content begins and ends."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(der[at : at + size], "big"), at + size
    return tag, at, at + length


def day(then: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(then))
