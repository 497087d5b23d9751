"""What a window's requests come to beside the old slot: evidence of harm, and proofs of its absence."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from checks.base.report import Finding, Verdict, compare, held, require
from checks.window.absence import Proof, points
from checks.window.before import Before
from checks.window.carried import Carried
from checks.window.evidence import BY_ROUTE, OVERALL, UNSERVED, Evidence
from checks.window.latency import QUANTILES, SLOWER
from checks.window.limits import WindowLimits
from checks.window.passing import MOST_LACK
from checks.window.streams import CLASS_WORDS, HARM, marks_in

WORDS = {
    **CLASS_WORDS,
    "failed": "errors",
    "slow_p95": "answers beyond the old slot's p95",
    "slow_p99": "answers beyond the old slot's p99",
    UNSERVED: "requests that no slot answered",
}
HINTS = {
    "shared": "Both slots suffer, so the release may not be the cause. See the database and the host.",
    UNSERVED: "No server was up, or the queue was too long: see HAProxy's statistics, and the instances.",
}
# What has so much of the evidence that it takes, on the scale of ln, is neither failed nor passed.
SUSPICIOUS = 1 / 3
# The chance of holding a window for an old slot that is as it was is one in a thousand.
WORSE_LN_E = math.log(1000)
# Blocks after which the proofs are worked out again while a window is young.
PROOF_BLOCKS = 30
# A smaller share has too few requests of any one route.
SMALLEST_SHARE = 5
EVIDENCE = "What failed is in the new slot's log: ./p12 evidence"


class ByRequest:
    """Judges the cells of a window that has a control; ``share`` is the candidate's, in percent."""

    def __init__(
        self,
        limits: WindowLimits,
        candidate: str,
        control: str,
        share: int,
        before: Before | None = None,
        carried: Mapping[str, Any] | None = None,
    ) -> None:
        self.limits, self.share = limits, share
        self.evidence = Evidence(
            candidate,
            control,
            min(max(share, 1), 99) / 100,
            limits.max_seconds,
            block_seconds=limits.block_seconds,
            cold_seconds=max(limits.cold_seconds, limits.warmup_seconds),
            before=before,
            tolerable=limits.tolerable_at(share),
            shared_limit=limits.shared_seconds,
            earlier=Carried.read(carried),
        )
        self._weighed: tuple[tuple[int, bool], list[Finding]] = ((-1, False), [])
        self._proofs: tuple[int, list[Proof]] = (-1, [])

    def add(self, elapsed: float, seconds: float, found: Mapping[str, Any]) -> None:
        """Take in a look of so many seconds that is whole; ``elapsed`` is the window's time at its end.

        ``found`` holds ``cells`` that were read; of its ``clients`` and ``marks`` what is none is left out.
        """
        self.evidence.add(elapsed, seconds, {**found, "marks": marks_in(found.get("marks"))})

    def findings(self, is_due: bool) -> Iterator[Finding]:
        """What the evidence came to, and what is not yet proven; the proofs anew where the window may end."""
        key = (self.evidence.blocks, is_due)
        if self._weighed[0] != key:
            self._weighed = (key, list(self._weigh(is_due)))
        yield from self._weighed[1]
        yield self._silent()

    def _weigh(self, is_due: bool) -> Iterator[Finding]:
        """What changes only where a block of time ends."""
        for of in OVERALL | BY_ROUTE:
            if found := self._compared(of):
                yield found
        yield self._latency()
        yield self._traffic()
        yield self._shared()
        yield self._worsened()
        yield self._unserved()
        yield from self._since_before()
        for proof in self.proofs(is_due):
            yield proven(proof, self.evidence.per_second)

    def _compared(self, of: str) -> Finding | None:
        log_e, route = self.evidence.log_e(of)
        of_class = (counts for (name, _), counts in self.evidence.counts.items() if name == of)
        counts = self.evidence.counts.get((of, route)) or next(of_class, None)
        if not counts:
            return None
        n_t, k_t, n_c, k_c = counts
        limit = math.log(1 / self.limits.alpha)
        where = f" on {route}" if route else ""
        said = (
            f"{WORDS[of]}{where}: new {k_t:.0f} of {n_t:.0f}, old {k_c:.0f} of {n_c:.0f};"
            f" evidence {log_e:.3g}, fails at {limit:.3g}{self._slowed(of)}"
        )
        found = compare(f"{of}_against_control_ln_e", round(log_e, 6), "<", round(limit, 6), EVIDENCE, said)
        found = doubted(found)
        # Where the old slot grows worse as well, whose harm it is shows when traffic is back.
        return held(found) if of in HARM and self._worse_ln_e >= WORSE_LN_E * SUSPICIOUS else found

    def _slowed(self, of: str) -> str:
        """Name the route that a tail is of, if one stands out."""
        route, times = self.evidence.levels.slowed_most() if of in QUANTILES else ("", 1.0)
        return f"; most of them on {route}, {times:.2g} times as slow" if route else ""

    def _latency(self) -> Finding:
        latency = self.evidence.levels
        times = math.exp(latency.shift.at_largest)
        sure = max(latency.shift.largest, 0.0)
        said = f"latency: new {times:.2g} times the old slot's; evidence {sure:.2g}, fails at 1"
        return compare("latency_against_control", sure, "<", 1.0, EVIDENCE, said)

    def _traffic(self) -> Finding:
        missing, route = self.evidence.passing.most_missing()
        part, where = 1 - math.exp(-max(missing.at_largest, 0.0)), f" of {route}" if route else ""
        sure = max(missing.largest, 0.0)
        least = "at least " if missing.at_largest >= 0.99 * MOST_LACK else ""
        said = f"answers{where}: the new slot lacks {least}{part:.0%} of its part{self._instead(route)}"
        said += f"; evidence {sure:.2g}, fails at 1"
        return compare("missing_against_control", sure, "<", 1.0, EVIDENCE, said)

    def _instead(self, route: str) -> str:
        """What the new slot gave instead of answers, if that tells."""
        events = {
            of: k_t - k_c
            for (of, at_route), (_, k_t, _, k_c) in self.evidence.counts.items()
            if at_route == route and not of.startswith("slow")
        }
        of = max(events, key=lambda name: events[name], default="")
        return f" and gives {events[of]:.0f} {WORDS[of]} more" if of and events[of] >= 1 else ""

    def _shared(self) -> Finding:
        """Harm that both slots suffer at once is held: going back may help, and nobody knows whose it is."""
        seconds = self.evidence.shared_seconds
        of = next((of for _, _, of in reversed(self.evidence.shared) if of), "")
        what = f" ({WORDS.get(of, 'slow answers')})" if of else ""
        limit = self.limits.shared_seconds
        said = f"both slots suffered for {seconds:.0f} s{what} (limit < {limit:g} s)"
        return held(compare("shared_seconds", round(seconds, 3), "<", limit, HINTS["shared"], said))

    def _worsened(self) -> Finding:
        """The old slot is worse than it was before: then being no worse than it is no pass."""
        log_e = self._worse_ln_e
        said = f"errors of the old slot against those before: evidence {log_e:.3g} (limit < {WORSE_LN_E:.3g})"
        worsened = ("old_slot_worsened_ln_e", round(log_e, 6), "<", round(WORSE_LN_E, 6))
        return held(doubted(compare(*worsened, HINTS["shared"], said)))

    @property
    def _worse_ln_e(self) -> float:
        return math.log(self.evidence.worse.evidence.value)

    def _unserved(self) -> Finding:
        """What HAProxy answered itself is both slots' harm: no server was there, or the queue too long."""
        log_e, (requests, events) = (
            math.log(self.evidence.unserved.evidence.value),
            self.evidence.unserved_counts,
        )
        said = (
            f"{WORDS[UNSERVED]}: {events:.0f} of {requests:.0f};"
            f" evidence {log_e:.3g} (limit < {WORSE_LN_E:.3g})"
        )
        limit = round(WORSE_LN_E, 6)
        return held(doubted(compare("unserved_ln_e", round(log_e, 6), "<", limit, HINTS[UNSERVED], said)))

    def _since_before(self) -> Iterator[Finding]:
        """What either slot has that was not there before the release is no pass, whosever it is."""
        for slot, since in self.evidence.since.items():
            for found in since.findings():
                if slot == self.evidence.control:
                    yield replace(held(found), name=f"old_slot_{found.name}")
                elif found.verdict is Verdict.FAILED:
                    yield replace(found, name=f"new_slot_{found.name}", verdict=Verdict.UNKNOWN)

    @property
    def look(self) -> Mapping[str, float]:
        """Each slot's failed requests of the last look, as evidence counts them."""
        return self.evidence.look

    @property
    def timed(self) -> int:
        """The candidate's answers whose latency was compared."""
        return round(self.evidence.levels.timed)

    def proofs(self, is_due: bool = True) -> list[Proof]:
        """How far each kind of harm can at most reach; anew for each block where due, else now and then."""
        blocks, done = self.evidence.blocks, self._proofs[0]
        if done < 0 or (blocks > done if is_due else blocks >= done + PROOF_BLOCKS):
            found = list(self.evidence.passing.proofs())
            if self.share > SMALLEST_SHARE:
                by_route = (self.evidence.levels.slowest_route(), self.evidence.passing.worst_route())
                found.extend(proof for proof in by_route if proof)
            self._proofs = (blocks, found)
        return self._proofs[1]

    @property
    def per_second(self) -> float:
        """The candidate's requests per second."""
        return self.evidence.per_second

    @property
    def known_proofs(self) -> tuple[Proof, ...]:
        """The proofs as they were last worked out."""
        return tuple(self._proofs[1])

    def carried(self) -> dict[str, Any]:
        """What the next window of the same release begins with."""
        seen = [proof for proof in self.proofs() if proof.needs is None and proof.name != "missing"]
        beyond = [proven(proof, self.evidence.per_second).sentence for proof in seen]
        return self.evidence.carried(beyond).to_dict()

    def _silent(self) -> Finding:
        """Every arm is asked until the last look; one that is not says nothing of now."""
        silent = max(alive.silence(self.evidence.elapsed) for alive in self.evidence.alive.values())
        return require("silent_seconds", round(silent, 3), "==", 0, "A slot is not asked any more.")


def doubted(found: Finding, hint: str = "Looks worse, not yet proven: more requests tell.") -> Finding:
    """What has so much of the evidence that it takes, on the scale of ln, is neither failed nor passed."""
    measured, limit = found.measured, found.limit
    if found.verdict is not Verdict.PASSED or not found.name.endswith("_ln_e"):
        return found
    if not isinstance(measured, float) or not isinstance(limit, float) or measured < limit * SUSPICIOUS:
        return found
    return replace(found, verdict=Verdict.UNKNOWN, hint=hint)


def proven(proof: Proof, per_second: float) -> Finding:
    """How far a kind of harm can at most reach, as a condition for passing."""
    hint = proof.needed(per_second) if proof.needs else ""
    hint = hint and f"{hint[0].upper()}{hint[1:]}."
    if proof.name.startswith("slow "):
        said = f"{proof.name[5:]} at most {proof.at_most:.2g} times as slow (95 %; tolerable {SLOWER:g})"
        found = require("slow_route_at_most_ratio", proof.at_most, "<=", proof.tolerable, hint)
        return replace(found, sentence=said)
    above = " % of its part" if proof.name == "missing" else f" points above {proof.beside}"
    said = f"{proof.name} at most {points(proof.at_most)}{above} (95 %; tolerable {points(proof.tolerable)})"
    name = "route_errors" if proof.name.startswith("errors on ") else proof.name
    found = require(f"{name}_at_most_ratio", round(proof.at_most, 6), "<=", proof.tolerable, hint)
    return replace(found, sentence=said)
