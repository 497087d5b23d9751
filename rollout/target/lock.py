"""Who may change a target now: owner, session, fencing token, heartbeat, expiry.

A *session* names the controlling process as ``host:pid:start``. Every change of a rollout carries the token
it was given; once somebody has taken the target over, a higher token is out and the old one is refused.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from rollout.errors import Refused
from rollout.files import file_lock, read_json, write_json

Clock = Callable[[], float]
LOCKED_HINT = "Wait for it, or when that engineer is gone: ./p12 lock break --why '…'"


@dataclass(frozen=True)
class Holder:
    """The state of a target's lock; times are Unix seconds.

    ``owner`` is empty when it is free; of one that was broken ``session`` then says by whom, ``since`` when.
    """

    token: int = 0
    owner: str = ""
    session: str = ""
    since: float = 0.0
    heartbeat: float = 0.0
    expires: float = 0.0

    def holds(self, now: float) -> bool:
        return bool(self.owner) and now < self.expires

    def describe(self) -> str:
        return f"{self.owner} (session {self.session}) since {_clock_text(self.since)}"

    def lost_to(self) -> str:
        """Say by what, and to whom and when, everybody but this holder lost the lock."""
        if self.owner:
            return f"takeover: to {self.describe()}"
        return f"{self.session}, {_clock_text(self.since)}" if self.session else "giving it back"


class Lock:
    """The lock of one target, in one file on its balancer."""

    def __init__(self, path: Path, seconds: float, clock: Clock = time.time) -> None:
        self.path = path
        self.seconds = seconds
        self.clock = clock

    def holder(self) -> Holder:
        """Return who has it; where the file is damaged nobody has, under a token above all there were."""
        try:
            return Holder(**(read_json(self.path) or {}))
        except (ValueError, TypeError):
            return Holder(token=int(self.clock()))

    def take(self, owner: str, session: str, dead_session: str = "") -> Holder:
        """Take the lock, or take it again in the same session.

        ``dead_session`` names a session that its own machine has seen dead; its lock is taken over.

        :raises Refused: somebody else holds it.
        """
        with self._mutex():
            now, current = self.clock(), self.holder()
            if current.holds(now) and current.session not in (session, dead_session):
                raise Refused(f"The target is locked by {current.describe()}.", LOCKED_HINT)
            return self._write(current, owner, session, now)

    def renew(self, token: int, seconds: float = 0) -> Holder:
        """Show that the holder of ``token`` is alive, and push the expiry on, by ``seconds`` if longer.

        :raises Refused: the token is no longer the current one.
        """
        with self._mutex():
            current = self.holder()
            if current.token != token or not current.owner:
                raise Refused(
                    f"You lost the lock, by {current.lost_to()}.", "See what happened: ./p12 status"
                )
            now = self.clock()
            renewed = Holder(
                **asdict(current) | {"heartbeat": now, "expires": now + max(self.seconds, seconds)}
            )
            write_json(self.path, asdict(renewed))
            return renewed

    def drop(self, token: int | None, session: str = "") -> bool:
        """Give back what ``token`` or ``session`` took; ``False`` when it had passed to somebody else."""
        with self._mutex():
            current = self.holder()
            if current.token != token and not (session and current.session == session and current.owner):
                return False
            write_json(self.path, asdict(Holder(token=current.token)))
            return True

    def fence(self, broken_by: str) -> int:
        """Invalidate every token handed out so far; the lock is free afterwards."""
        with self._mutex():
            broken = Holder(self.holder().token + 1, session=broken_by, since=self.clock())
            write_json(self.path, asdict(broken))
            return broken.token

    def _write(self, current: Holder, owner: str, session: str, now: float) -> Holder:
        again = current.session == session and current.holds(now)
        holder = Holder(
            token=current.token if again else current.token + 1,
            owner=owner,
            session=session,
            since=current.since if again else now,
            heartbeat=now,
            expires=now + self.seconds,
        )
        write_json(self.path, asdict(holder))
        return holder

    def _mutex(self) -> AbstractContextManager[None]:
        return file_lock(self.path.with_suffix(".mutex"))


def _clock_text(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
