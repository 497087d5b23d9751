"""Whose harm it was: what becomes of it once the new slot has no traffic any more.

A window is held when both slots suffer. Traffic goes back at once, and visitors are watched on: harm that
stays was not the release's, and harm that goes away was, if somebody else's would hardly have done so. Only
shares of harmed requests are compared, so what no request showed is attributed to nobody. Harm that came and
went by itself while the release had its traffic must stay away for much longer than it did then.

How likely somebody else's harm goes along by chance is told by two coincidences. It ends with the release: of
what lasted t seconds so far, whatever its scale, a part of x / (t + x) ends within the next x. And it began
with the release: within d seconds of a share, where before there was less than one such minute in so many.
What a release was turned back for earlier counts too. Chances are put together as Fisher (1932) does.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from checks.base.report import Verdict
from checks.window.absence import upper
from checks.window.latency import BUCKET_LOG
from checks.window.minutes import Minute
from checks.window.samples import Question
from checks.window.streams import CLASSES, HARM

# What is gone is at most this part of what it was.
GONE = 1 / 3
# So many harmed requests, such a part of all, and clearly more than before, can be seen to go away.
FEWEST, LEAST_RATIO = 3, 0.01
# Harm of such a part of the requests is harm however long it has been there.
NEVER_USUAL = 0.2
# Answers are slow beyond so many times what 95 % usually take; before that is known, beyond the usual level.
SLOW_TIMES, SLOW_TIMES_LEVEL = 2.0, 8.0
# Harm is away once it was for so many times its longest pause before.
PAUSES = 3.0
# A block of looks tells if so many harmed requests were to be expected of it; so far back they are looked at.
ENOUGH, LOOK_BACK_SECONDS = 9, 600.0
# What was under way when traffic went back ends first; nor is it known any better when a harm ended.
SETTLE_SECONDS = 2.0
# Somebody else's harm is taken for the release's no more often than this. When it began says something only
# of harm that ends with the release, at least so nearly.
DOUBT, MOST_AFTER = 0.01, 0.1
LEAST_KNOWN = 600.0
KINDS = {"errors": "failed requests", "slow": "slow answers"}


@dataclass(frozen=True)
class Outcome:
    """``failed``: the harm went with the release. ``unknown``: it stayed, or nobody can tell.

    ``chance`` is how likely harm of somebody else's would have come and gone like that.
    """

    verdict: Verdict
    summary: str
    chance: float = 1.0


@dataclass
class Look:
    """What visitors got for some seconds, whoever served them; answers by bucket of their latency."""

    seconds: float
    requests: int = 0
    errors: int = 0
    buckets: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, sample: Mapping[str, Any], seconds: float) -> "Look":
        look = cls(seconds)
        for _, _, _, status, requests, _, _, buckets in (sample.get("requests") or {}).get("cells") or ():
            look.requests += requests
            look.errors += requests if CLASSES.get(status) in HARM else 0
            for bucket, count in buckets.items() if status == "2xx" else ():
                look.buckets[int(bucket)] += count
        return look

    @classmethod
    def of_minute(cls, minute: Minute) -> "Look":
        """What a kept minute had, whoever served it."""
        block, look = minute.block, cls(minute.seconds)
        look.requests = round(sum(block.judged.values()))
        look.errors = round(sum(n for (of, _), n in block.events.items() if of in HARM))
        for buckets in block.route_buckets.values():
            look.buckets.update(buckets)
        return look

    def harmed(self, kind: str, edge: float) -> tuple[int, int]:
        """The harmed requests of a kind, and of how many."""
        if kind == "errors":
            return self.errors, self.requests
        return sum(n for bucket, n in self.buckets.items() if bucket > edge), self.buckets.total()

    @property
    def level(self) -> float:
        """The mean bucket of its answers."""
        return sum(bucket * n for bucket, n in self.buckets.items()) / max(self.buckets.total(), 1)


class Withdrawal:
    """Watches a target from the moment a held window's traffic went back.

    ``before`` are minutes of before the release, and ``earlier`` the chances of what it was turned back for.
    """

    def __init__(
        self,
        question: Question,
        samples: Iterable[Mapping[str, Any]],
        before: Iterable[Minute] = (),
        earlier: Iterable[float] = (),
    ) -> None:
        self.seconds, self.before = question.limits.withdrawal_seconds, [Look.of_minute(m) for m in before]
        self.earlier = list(earlier)
        looks = list(_looks(samples))
        whole, opened = _last(looks, LOOK_BACK_SECONDS), sum(look.seconds for look in looks)
        during = deque[Look]()
        while looks and sum(look.seconds for look in during) < question.limits.shared_seconds:
            during.appendleft(looks.pop())
        usual = self.before or looks
        self.edge = _edge([look for look in usual if look.buckets])
        seen = {
            kind: events / trials
            for kind in KINDS
            for events, trials in [_sum(during, kind, self.edge)]
            if events >= FEWEST
            and events > trials * max(LEAST_RATIO, min(_ratio(usual, kind, self.edge) / GONE, NEVER_USUAL))
        }
        # The part of the requests that was harmed, for each kind that comes near the worst.
        self.during = {kind: was for kind, was in seen.items() if was >= GONE * max(seen.values())}
        blocks = {kind: list(self._harmed(whole, kind)) for kind in self.during}
        self.pause = max((_longest_pause(found) for found in blocks.values()), default=0.0)
        self.quiet = PAUSES * self.pause
        # For how long the harm was there with the release, and so long after the share it began.
        self.lasted = min((_since_first(found) for found in blocks.values()), default=0.0)
        self.began_after = max(opened - self.lasted, SETTLE_SECONDS)
        self.after: list[tuple[float, Look]] = []
        self._at: float | None = None
        self._elapsed = 0.0

    def add(self, sample: Mapping[str, Any]) -> Outcome | None:
        """Take in a look after traffic went back; None while nothing is decided."""
        if not self.during:
            return Outcome(Verdict.UNKNOWN, "no request showed harm that could go away")
        at = sample.get("at")
        if isinstance(at, int | float):
            seconds = max(at - self._at, 0.0) if self._at is not None else 0.0
            self._at, self._elapsed = at, self._elapsed + seconds
            if self._elapsed > SETTLE_SECONDS and not (sample.get("requests") or {}).get("broken"):
                self.after.append((self._elapsed, Look.of(sample, seconds)))
        recent = [look for at, look in self.after if at > self._elapsed / 2]
        now = {kind: _sum(recent, kind, self.edge) for kind in self.during}
        is_gone = all(upper(*now[kind], was * GONE) <= was * GONE for kind, was in self.during.items())
        if is_gone and self._quiet_seconds() >= self.quiet:
            return self._gone(now)
        if self._elapsed < self.seconds:
            return None
        return Outcome(
            Verdict.UNKNOWN,
            f"{self._elapsed:.0f} s after turning back nothing shows that the harm went with the release: "
            f"{self._words(now)}{self._pause_words()}",
        )

    def _gone(self, now: Mapping[str, tuple[int, int]]) -> Outcome:
        ends = self._ends()
        chance = fisher([ends, *(self._begins() if ends <= MOST_AFTER else ())])
        together = fisher([*self.earlier, chance])
        said = f"the harm went away within {self._elapsed:.0f} s of turning back"
        if together <= DOUBT:
            again = f" for the {len(self.earlier) + 1}. time" if self.earlier else ""
            why = f"{said}{again}, so it was the release's: {self._words(now)}"
            return Outcome(Verdict.FAILED, why, chance)
        why = f"{said}, as somebody else's does {together:.0%} of the time: {self._words(now)}"
        more = "If it comes and goes with the release again, it was the release's"
        return Outcome(Verdict.UNKNOWN, f"{why}. {more}", chance)

    def _ends(self) -> float:
        """How likely harm of somebody else's ends so soon after the release had its traffic."""
        late = max(self._elapsed - self._quiet_seconds(), SETTLE_SECONDS) + self.pause
        return late / (self.lasted + late)

    def _begins(self) -> Iterator[float]:
        """How likely it began so soon after a share, if it is known for long enough how it was before."""
        known = sum(look.seconds for look in self.before)
        if known >= LEAST_KNOWN:
            harmed = sum(self._is_harmed(look) for look in self.before)
            yield min((harmed + 1) * self.began_after / known, 1.0)

    def _is_harmed(self, look: Look) -> bool:
        """Whether a minute of before had so much harm of any kind as a few seconds of this would be."""
        for kind, was in self.during.items():
            events, trials = look.harmed(kind, self.edge)
            if events >= FEWEST and events > trials * max(was * SETTLE_SECONDS / 60, LEAST_RATIO / 2):
                return True
        return False

    def _harmed(self, looks: Iterable[Look], kind: str) -> Iterator[tuple[float, bool]]:
        """For how long, and whether the harm was there then: in blocks of enough requests to tell."""
        was, seconds, events, trials = self.during[kind], 0.0, 0, 0
        for look in looks:
            harmed, of = look.harmed(kind, self.edge)
            seconds, events, trials = seconds + look.seconds, events + harmed, trials + of
            if trials * was >= ENOUGH:
                yield seconds, events > trials * was * GONE
                seconds, events, trials = 0.0, 0, 0

    def _quiet_seconds(self) -> float:
        """For how long no kind of harm was seen after turning back."""
        looks = [look for _, look in self.after]
        ends = []
        for kind in self.during:
            quiet = 0.0
            for seconds, is_harmed in self._harmed(looks, kind):
                quiet = 0.0 if is_harmed else quiet + seconds
            ends.append(quiet)
        return min(ends)

    def _pause_words(self) -> str:
        if self.quiet <= self.seconds:
            return ""
        return f"; it came and went by itself before, with pauses of up to {self.pause:.0f} s"

    def _words(self, now: Mapping[str, tuple[int, int]]) -> str:
        return ", ".join(
            f"{KINDS[kind]} {self.during[kind]:.1%} before, {events} of {trials} after"
            for kind, (events, trials) in now.items()
        )


def fisher(chances: Sequence[float]) -> float:
    """The chance that so many independent chances are together as small as these (Fisher 1932)."""
    product = math.prod(chances)
    if product <= 0:
        return 0.0
    return product * sum((-math.log(product)) ** i / math.factorial(i) for i in range(len(chances)))


def _since_first(blocks: Sequence[tuple[float, bool]]) -> float:
    """The seconds since harm was first there, that block's own included."""
    first = next((i for i, (_, is_harmed) in enumerate(blocks) if is_harmed), len(blocks))
    return sum(seconds for seconds, _ in blocks[first:])


def _last(looks: list[Look], seconds: float) -> list[Look]:
    """The looks of so many seconds at the end."""
    found = deque[Look]()
    for look in reversed(looks):
        if sum(each.seconds for each in found) >= seconds:
            break
        found.appendleft(look)
    return list(found)


def _longest_pause(looks: Iterable[tuple[float, bool]]) -> float:
    """The longest time without harm after the first of it, in seconds."""
    longest = pause = 0.0
    seen = False
    for seconds, is_harmed in looks:
        seen = seen or is_harmed
        pause = 0.0 if is_harmed or not seen else pause + seconds
        longest = max(longest, pause)
    return longest


def _looks(samples: Iterable[Mapping[str, Any]]) -> Iterable[Look]:
    before: float | None = None
    for sample in samples:
        at = sample.get("at")
        if isinstance(at, int | float):
            yield Look.of(sample, max(at - before, 0.0) if before is not None else 0.0)
            before = at


def _edge(looks: list[Look]) -> float:
    """The bucket beyond which an answer is slow, from the faster half of the looks before the harm."""
    fast = sorted(looks, key=lambda look: look.level)[: math.ceil(len(looks) / 2)]
    buckets = sum((look.buckets for look in fast), Counter[int]())
    left = 0.05 * buckets.total()
    for bucket in sorted(buckets, reverse=True):
        left -= buckets[bucket]
        if left <= 0:
            return bucket + math.log(SLOW_TIMES) / BUCKET_LOG
    return math.inf


def _ratio(looks: Iterable[Look], kind: str, edge: float) -> float:
    events, trials = _sum(looks, kind, edge)
    return events / trials if trials else 0.0


def _sum(looks: Iterable[Look], kind: str, edge: float) -> tuple[int, int]:
    found = [look.harmed(kind, edge) for look in looks]
    return sum(events for events, _ in found), sum(trials for _, trials in found)
