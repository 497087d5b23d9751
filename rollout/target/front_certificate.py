"""The front door's TLS certificate: changed while HAProxy runs, and told before it ends.

The owner's file, which ACME may renew at any time, is not what HAProxy starts with: that is a copy beside its
configuration, which is only ever replaced by what was checked.

Source: https://docs.haproxy.org/2.6/management.html section 9.3 (set, commit, abort and show ssl cert).
"""

import calendar
import time
from pathlib import Path
from typing import Any

from rollout.errors import RolloutError
from rollout.files import write_bytes
from rollout.target import pem
from rollout.target.haproxy import Balancer
from rollout.target.steering import Steering
from rollout.target.target import Target

DAY_SECONDS = 86_400


def renew(steering: Steering, owner: str) -> dict[str, Any]:
    """Take what the owner's file holds, if it is another one: in a running HAProxy, and for its start.

    :raises RolloutError: it cannot be used, or HAProxy does not take it; what serves goes on.
    """
    place = steering.target.settings.get("front_certificate")
    if not place or not _is_another(place):
        return {}
    given, file = pem.read(Path(place["source"])), Path(place["file"])
    is_in_force = _hand_over(steering.balancer, file, given)
    write_bytes(file, given)
    until = pem.day(pem.expiry(given))
    if is_in_force:
        with steering.change():
            steering.journal.append(owner, "front.renewed", until=until)
    return {"changed": True, "say": f"the front door's certificate holds until {until}"}


def _is_another(place: dict[str, Any]) -> bool:
    """Say whether the owner's file holds something else than the checked copy, or cannot be read."""
    try:
        return pem.blocks(pem.content(Path(place["source"]))) != Path(place["file"]).read_bytes()
    except OSError:
        return True


def _hand_over(balancer: Balancer, file: Path, given: bytes) -> bool:
    """Give HAProxy a certificate in the place of the file's; False where it does not run, or without one."""
    try:
        if "Status:" not in balancer.command(f"show ssl cert {file}"):
            return False
    except RolloutError:
        return False
    said = balancer.command(f"set ssl cert {file} <<\n{given.decode()}")
    if "Transaction" in said:
        said = balancer.command(f"commit ssl cert {file}")
    if "Success" not in said:
        balancer.command(f"abort ssl cert {file}")
        why = " ".join(said.split())
        raise RolloutError(f"HAProxy does not take the certificate: {why}", "./p12 provision")
    return True


def seen(target: Target, balancer: Balancer) -> dict[str, Any] | None:
    """Return until when the certificate in force holds, for whom, and what is wrong; None without TLS."""
    place = target.settings.get("front_certificate")
    if not place:
        return None
    answer: dict[str, Any] = {"until": None, "names": "", "error": "", "warn_days": place["warn_days"]}
    try:
        said = balancer.command(f"show ssl cert {place['file']}")
        found = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
        answer["until"] = calendar.timegm(time.strptime(found["notAfter"], "%b %d %H:%M:%S %Y %Z"))
        answer["names"] = found.get("Subject Alternative Name", "").replace("DNS:", "")
        if _is_another(place):
            pem.read(Path(place["source"]))
    except RolloutError as error:
        answer["error"] = str(error)
    except (KeyError, ValueError):
        answer["error"] = "HAProxy runs without it: ./p12 provision"
    return answer


def alarm(answer: dict[str, Any] | None) -> str:
    """Say what somebody must do something about: it ends soon, or a new one cannot be used."""
    if not answer:
        return ""
    left = (answer["until"] or 0) - time.time()
    if answer["until"] and left < answer["warn_days"] * DAY_SECONDS:
        ends = f"ends on {pem.day(answer['until'])}, in {left / DAY_SECONDS:.0f} days"
        said = ends if left > 0 else f"expired on {pem.day(answer['until'])}"
        return f"the front door's certificate {said}" + (f": {answer['error']}" if answer["error"] else "")
    return f"the front door's certificate: {answer['error']}" if answer["error"] else ""
