"""Who is asking: the client's address behind one trusted hop, and its fingerprint."""

import hashlib
from ipaddress import ip_network

from flask import Request

from app.settings import Settings

FINGERPRINT_HEADERS = ("X-Author-Fp", "X-Fingerprint", "X-FP")
LONGEST_FINGERPRINT = 128
LONGEST_AUTHOR = 64
LONGEST_ADDRESS = 64


def peer_address(request: Request) -> str:
    """Return the address of the other end of the connection."""
    return str(request.environ.get("REMOTE_ADDR", ""))


def client_address(request: Request, trusted_hops: int) -> str:
    """Return the client's address: what the trusted hop saw, or the peer when there is none.

    Anything a client writes into ``X-Forwarded-For`` itself stands further left and is ignored.
    """
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")
    if trusted_hops and (seen := forwarded[-trusted_hops].strip()):
        return seen[:LONGEST_ADDRESS]
    return peer_address(request)


def limited_address(address: str) -> str:
    """Return what limits count a client by: an IPv6 address by its /64, for one client has all of that."""
    if ":" not in address:
        return address
    try:
        return str(ip_network((address, 64), strict=False))
    except ValueError:
        return address


def fingerprint(request: Request, settings: Settings) -> str:
    """Return what a client is counted by: at most 128 characters, never empty."""
    given = next(
        (found for name in FINGERPRINT_HEADERS if (found := request.headers.get(name, "").strip())), ""
    )
    given = given or request.cookies.get("fp", "").strip()
    if not given:
        seen = client_address(request, settings.trusted_hops)
        agent = request.headers.get("User-Agent", "")
        return _digest(f"{settings.fingerprint_salt}|{seen}|{agent}")
    return _storable(given, LONGEST_FINGERPRINT)


def author_fingerprint(request: Request, settings: Settings) -> str:
    """Return the fingerprint as notes keep it: at most 64 characters."""
    return _storable(fingerprint(request, settings), LONGEST_AUTHOR)


def _storable(given: str, longest: int) -> str:
    # Postgres takes neither NUL nor half of a surrogate pair, and both fit into a cookie.
    fits = len(given) <= longest and given.isprintable()
    return given if fits else _digest(given)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
