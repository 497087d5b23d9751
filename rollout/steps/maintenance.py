"""What the words of maintenance mean: for the balancer, which is asked, and for the database host."""

from collections.abc import Mapping, Sequence
from typing import Any

from rollout.errors import Refused
from rollout.steps import read_only
from rollout.target.steering import Steering
from rollout.text import did_you_mean

# Which verb of the host program follows on the database host.
RESTARTS: Mapping[str, Sequence[str]] = {
    "apply": ("restart", "postgres"),
    "restart postgres": ("restart", "postgres", "--forced"),
    "restart pgbouncer": ("restart", "pgbouncer"),
    "on": (),
    "off": (),
}


def begin(steering: Steering, words: Sequence[str], token: int | None, dry_run: bool) -> dict[str, Any]:
    """Switch writes if asked to; return what is left: whether to ``apply`` settings, and the ``restart``.

    :raises Refused: these are no words of maintenance, and any other would do nothing.
    """
    asked = " ".join(words)
    if asked not in RESTARTS:
        said = f"maintenance does not know {asked!r}, so nothing was done.{did_you_mean(asked, RESTARTS)}"
        raise Refused(said, "./p12 --help")
    if RESTARTS[asked]:
        steering.target.refuse_elsewhere()
    left = {"apply": asked == "apply", "restart": list(RESTARTS[asked])}
    if asked in ("on", "off") and not dry_run:
        return left | read_only.by_hand(steering, on=asked == "on", token=token or 0)
    return left
