"""Everything a change of a target needs in its hands, opened once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rollout.errors import Failed, Refused, Undecided
from rollout.files import file_lock
from rollout.target.haproxy import Balancer
from rollout.target.history import History
from rollout.target.instances import Reply
from rollout.target.journal import BrokenJournal
from rollout.target.lock import Holder, Lock
from rollout.target.state import State
from rollout.target.target import Target
from rollout.target.wanted_flags import Remembered, Wanted, WantedFlags, push


@dataclass(frozen=True)
class Steering:
    """A target with its balancer, journal, lock and wanted flags."""

    target: Target
    balancer: Balancer
    journal: History
    lock: Lock
    flags: WantedFlags

    @classmethod
    def of(cls, target: Target) -> "Steering":
        target.steering.mkdir(mode=0o700, exist_ok=True)
        history = History(target.steering / "journal.jsonl")

        def remembered() -> Remembered:
            try:
                return history.state().flags
            except BrokenJournal:
                return history.readable_state().flags

        return cls(
            target,
            Balancer(target),
            history,
            Lock(target.steering / "lock.json", target.settings["lock_seconds"]),
            WantedFlags(target, remembered),
        )

    def state(self) -> State:
        return self.journal.state()

    def state_in_need(self, owner: str, trouble: list[str]) -> State:
        """Return the state for what must go on with a damaged journal: a new one begins, and that is said.

        Where not even that can be written, what is still known is returned, and why is said as well.
        """
        try:
            return self.state()
        except BrokenJournal as error:
            trouble.append(str(error))
        try:
            state = self.journal.replace_damaged(owner, trouble[-1])
        except OSError as error:
            trouble.append(str(error))
            return self.journal.readable_state()
        trouble[-1] += f" It is kept as {state.damaged}; what could be read of it is in a new one."
        return state

    def want_flags(self, slot: str, flags: Mapping[str, str], owner: str) -> Wanted:
        """Want flags in a slot under a new generation, and journal it."""
        wanted = self.flags.put(slot, flags)
        entry = {"slot": slot, "generation": wanted.generation, "flags": dict(flags)}
        self.journal.append(owner, "flags.wanted", **entry)
        return wanted

    def push_flags(self, wanted: Wanted, owner: str) -> dict[str, Reply]:
        """Send what a slot should have to all its instances.

        Where one has seen a higher generation, since the balancer lost its count, they are sent above that.
        """
        instances = self.target.instances_of(wanted.slot)
        answers = push(self.target, wanted, instances)
        seen = max((_generation(answer) for answer in answers.values() if answer.status == 409), default=0)
        if seen < wanted.generation or not seen:
            return answers
        self.flags.raise_counter(seen)
        return push(self.target, self.want_flags(wanted.slot, wanted.flags, owner), instances)

    @contextmanager
    def change(self, token: int | None = None) -> Iterator[str]:
        """Hold the target's mutex for one change and yield the owner that the journal will name.

        With ``token`` the caller must be the lock's holder. The token is looked at inside the mutex, so a
        takeover cannot slip in between.

        :raises Refused: the token was fenced off, or another change takes too long.
        """
        with file_lock(self.target.mutex):
            yield self.renew(token).owner if token is not None else ""

    def renew(self, token: int, seconds: float = 0) -> Holder:
        """Show that the lock's holder is alive, and will be for ``seconds`` if that is longer than usual.

        :raises Refused: it lost the lock; says to whom and when, what is true now, and how to go on.
            ``Failed`` where that was a rollback.
        """
        try:
            return self.lock.renew(token, seconds)
        except Refused as error:
            state = self.state()
            serving = state.slots.get(state.serving or "")
            words = [str(error), f"{serving.release if serving else 'Nothing'} serves {self.target.name}."]
            hint = "See what happened: ./p12 status; then, once the lock is free, the same command again"
            for release, why in state.quarantined.items():
                if state.rollout and state.rollout.release == release:
                    words.append(f"{release} was rolled back: {why}.")
                    again = f"./p12 release --branch {release} --why '…'"
                    hint = f"./p12 status; to release it all the same: {again}"
            # Who turns traffic back, the guard or a person, takes the lock away first.
            lost = self.lock.holder()
            is_back = not lost.owner and lost.session.startswith("rollback: ")
            raise (Failed if is_back else Undecided)(" ".join(words), hint) from error


def _generation(answer: Reply) -> int:
    said = answer.document.get("generation")
    return said if isinstance(said, int) else 0
