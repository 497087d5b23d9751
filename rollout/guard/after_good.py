"""What the guard goes on to look for once a release is good: what was not there before it began.

A minute at a time, against the hour before the release and the same hours of the days before it. The judge
begins anew each hour, so that its memory is bounded; each hour has its part of the chance of a false word.
"""

from dataclasses import replace

from checks.base.report import Verdict
from checks.window.against_before import AgainstBefore, Asked
from checks.window.before import DAY, HOUR, NEW_TRAFFIC_SD, SAME_HOURS
from checks.window.limits import WindowLimits
from checks.window.minutes import MINUTE, Minute
from rollout.guard.minutes import before_release, directory_of, read_minutes
from rollout.target.state import Rollout, State
from rollout.target.target import FULL_SHARE, Target

# The chance of a false word in all the days together.
ALPHA = 0.01
# So long most must suffer within ten minutes: a database that stalls is no release.
STORM_SECONDS = 300.0


def is_watched(target: Target, state: State, at: float) -> bool:
    """Whether the newest release is good, still serves everything, and has not been so for long."""
    rollout, days = state.rollout, float(target.settings["watch_days"])
    if rollout is None or rollout.ended != "finished" or state.shares.get(rollout.slot) != FULL_SHARE:
        return False
    return bool(rollout.ended_at) and at - rollout.ended_at < days * DAY


def hourly_alpha(days: float) -> float:
    """An hour's part of the chance of a false word in so many days."""
    return ALPHA * HOUR / (max(days, 1.0) * DAY)


class AfterGood:
    """Judges the minutes of a release that is good already."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._key: tuple[str, int] | None = None
        self._judge: AgainstBefore | None = None

    def add(self, minute: Minute, rollout: Rollout) -> str:
        """Take in a minute; say what of it was not there before the release, "" where nothing is."""
        if minute.release != rollout.release:
            return ""
        hour = int(minute.start // HOUR * HOUR)
        if self._key != (rollout.release, hour):
            self._key = (rollout.release, hour)
            self._judge = self._begin(rollout, hour)
            # What a guard before this one saw of the hour.
            for earlier in read_minutes(directory_of(self.target), max(hour, rollout.ended_at), minute.start):
                self._weigh(earlier, rollout)
        self._weigh(minute, rollout)
        found = self._judge.findings() if self._judge else ()
        return "; ".join(str(finding) for finding in found if finding.verdict is Verdict.FAILED)

    def _weigh(self, minute: Minute, rollout: Rollout) -> None:
        if self._judge and minute.release == rollout.release:
            seconds = minute.start % HOUR + MINUTE
            self._judge.add(seconds, minute.seconds, minute.block)

    def _begin(self, rollout: Rollout, hour: int) -> AgainstBefore | None:
        known, _ = before_release(self.target, rollout.begun_at, hour)
        if known is None:
            return None
        if hour - rollout.begun_at > SAME_HOURS and known.traffic_sd == NEW_TRAFFIC_SD:
            # How much traffic there is at this time of the day, nobody saw before.
            known = replace(known, good_per_minute=None)
        limits = WindowLimits(**self.target.settings["windows"]["monitor"])
        alpha = hourly_alpha(float(self.target.settings["watch_days"]))
        tolerable = limits.tolerable_at(FULL_SHARE)
        return AgainstBefore(known, Asked(rollout.slot, tolerable, alpha, HOUR, MINUTE, STORM_SECONDS))
