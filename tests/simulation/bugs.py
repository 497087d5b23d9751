"""Bugs that are planted into the kit's own code, to see that the simulated world finds them."""

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rollout import files
from rollout.guard.loop import Guard
from rollout.steps import rollback, rollout, rules
from rollout.target import journal, lock, wanted_flags
from rollout.target.haproxy import Balancer
from rollout.target.steering import Steering


@dataclass(frozen=True)
class Bug:
    """``old`` becomes ``new`` in the source of what is called ``name`` in ``where``."""

    words: str
    where: Any
    name: str
    old: str
    new: str

    @contextmanager
    def planted(self) -> Iterator[None]:
        function = getattr(self.where, self.name)
        source = textwrap.dedent(inspect.getsource(function))
        if self.old not in source:
            raise LookupError(f"{self.name} no longer says {self.old!r}.")
        names = inspect.unwrap(function).__globals__
        made: dict[str, Any] = {}
        exec(source.replace(self.old, self.new), names, made)  # noqa: S102
        # Whoever imported a function by its name has this one too.
        real = inspect.unwrap(function)
        code, real.__code__ = real.__code__, inspect.unwrap(made[self.name]).__code__
        try:
            yield
        finally:
            real.__code__ = code


BUGS = (
    Bug("the journal is not synced", journal.Journal, "append", "os.fsync(file.fileno())", "pass"),
    Bug(
        "a cut last line of the journal is written on",
        journal.Journal,
        "append",
        "file.truncate(end)",
        "end = file.seek(0, 2)",
    ),
    Bug("a file is renamed before it is synced", files, "write_bytes", "os.fsync(file.fileno())", "pass"),
    Bug("a lost directory sync on rename", files, "write_bytes", "sync_directory(path.parent)", "pass"),
    Bug(
        "a token that is not compared",
        lock.Lock,
        "renew",
        "current.token != token or not current.owner",
        "False",
    ),
    Bug("a lock that does not look at its expiry", lock.Holder, "holds", "now < self.expires", "True"),
    Bug("quarantine is not asked", rules, "refuse_quarantined", "reason and not why", "False"),
    Bug(
        "a rollback that journals its intent late",
        rollback,
        "roll_back",
        "if due and state.rollback is None",
        "if False",
    ),
    Bug(
        "a rollback that waits for every instance",
        rollback,
        "prove_serving",
        "if up and not wrong",
        "if len(up) == len(instances) and not wrong",
    ),
    Bug("weights are lowered before others are raised", Balancer, "shift", "-item[1]", "item[1]"),
    Bug(
        "weights are not kept for HAProxy's next start, nor healed",
        Balancer,
        "is_kept",
        "self.weights_path.exists() and self.state_path.exists()",
        "True",
    ),
    Bug("flags are not pushed to who is behind", Guard, "heal_flags", "< wanted.generation]", "< 0]"),
    Bug(
        "flags above a seen generation are not counted on",
        Steering,
        "push_flags",
        "self.flags.raise_counter(seen)",
        "pass",
    ),
    Bug(
        "a generation that is handed out twice",
        wanted_flags.WantedFlags,
        "put",
        'stored["generation"] + 1',
        'stored["generation"]',
    ),
    Bug(
        "a rollback that does not journal its shift",
        rollback,
        "roll_back",
        'steering.journal.append(owner, "traffic.shifted", shares=shares, release=route.back_to)',
        "pass",
    ),
    Bug("a release that is not proven may begin", rollout, "begin", "not held.proven", "False"),
)
