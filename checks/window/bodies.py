"""Answers of the right status with a wrong body: the balancer cannot see them, the kit's own visitors do."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from checks.base.report import Finding, compare
from checks.window.eprocess import AgainstControl, AgainstRatio
from checks.window.limits import WindowLimits

HINT = "Its answers have the right status and a wrong body: see failures in the visitors' ledger."


class Bodies:
    """What visitors were told by each slot, ``{slot: {"answers": n, "wrong": n}}``, cumulative.

    Beside a control against it, else against the error ratio that the site allows. A site without simulated
    visitors has none of it, and no finding; one whose visitors are gone cannot pass.
    """

    def __init__(self, limits: WindowLimits, candidate: str, control: str | None) -> None:
        self.limits, self.candidate, self.control = limits, candidate, control
        self.beside, self.alone = AgainstControl(), AgainstRatio(limits.max_error_ratio)
        self.totals: Counter[tuple[str, str]] = Counter()
        self.is_expected = False
        self._before: Mapping[tuple[str, str], int] = {}

    def add(self, found: Any) -> None:
        """Take in a look; a count that fell is of a new ledger, and says nothing of what was before."""
        if not isinstance(found, Mapping):
            return
        self.is_expected = True
        slots = [slot for slot in (self.candidate, self.control) if slot is not None and slot in found]
        now = {(slot, name): n for slot in slots for name, n in _counts(found[slot])}
        new = {key: now[key] - self._before[key] for key in now if key in self._before}
        self._before = now
        if not new or min(new.values()) < 0:
            return
        self.totals.update(new)
        told = (new.get((self.candidate, "answers"), 0), new.get((self.candidate, "wrong"), 0))
        if self.control is None:
            self.alone.add(*told)
        else:
            self.beside.add(*told, *(new.get((self.control, name), 0) for name in ("answers", "wrong")))

    def findings(self) -> list[Finding]:
        """What the evidence came to; unknown while no visitor was answered by the candidate."""
        if not self.is_expected:
            return []
        answers, wrong = (self.totals[self.candidate, name] for name in ("answers", "wrong"))
        log_e = (self.alone if self.control is None else self.beside).log_e
        limit = self.limits.evidence_of("errors")
        old = "" if self.control is None else self._words(self.control, ", old ")
        said = f"wrong bodies: {self._words(self.candidate, 'new ')}{old}; evidence {log_e:.3g}"
        value = log_e if answers or wrong else None
        return [compare("wrong_bodies_ln_e", value, "<", limit, HINT, f"{said}, fails at {limit:.3g}")]

    def _words(self, slot: str, before: str) -> str:
        return f"{before}{self.totals[slot, 'wrong']} of {self.totals[slot, 'answers']}"


def _counts(found: Any) -> list[tuple[str, int]]:
    if not isinstance(found, Mapping):
        return []
    counts = [(name, found.get(name)) for name in ("answers", "wrong")]
    return [(name, n) for name, n in counts if type(n) is int]
