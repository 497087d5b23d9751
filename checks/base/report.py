"""What every check answers with: findings, the verdict they add up to, and how both are shown."""

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import eq, ge, le, lt, ne
from typing import Any

Measured = float | int | str | None

OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {"<=": le, "<": lt, ">=": ge, "==": eq, "!=": ne}
# How the sentence begins of what would not have passed, and decides nothing.
OBSERVED = "observed only: "
UNITS = {"seconds": "s", "ms": "ms", "mb": "MB", "bytes": "bytes"}


class Verdict(StrEnum):
    """The answers a check can give. Failed beats held, held beats unknown, unknown beats passed.

    Held is harm that may be somebody else's.
    """

    PASSED = "passed"
    FAILED = "failed"
    HELD = "held"
    UNKNOWN = "unknown"


WORST_FIRST = (Verdict.FAILED, Verdict.HELD, Verdict.UNKNOWN, Verdict.PASSED)
EXIT_STATUS = {Verdict.PASSED: 0, Verdict.FAILED: 3, Verdict.HELD: 4, Verdict.UNKNOWN: 4}


@dataclass(frozen=True)
class Finding:
    """One measured value against one limit, e.g. ``deadlocks 3 (limit == 0)``.

    ``sentence`` says the same to a person where name and numbers alone would not be understood.
    """

    name: str
    measured: Measured
    operator: str
    limit: Measured
    verdict: Verdict
    hint: str = ""
    sentence: str = ""

    def __str__(self) -> str:
        limit = f"(limit {self.operator} {self.shown(self.limit)})"
        said = self.sentence or f"{self.name} {self.shown(self.measured)} {limit}"
        return f"{said}. {self.hint}" if self.hint and self.verdict is not Verdict.PASSED else said

    def shown(self, value: Measured) -> str:
        """A measured value or a limit in few characters, with the unit that the finding's name ends in."""
        if value is None:
            return "not measured"
        if isinstance(value, str):
            return value
        if self.name.endswith(("_ratio", "_share")):
            return f"{100 * value:.3g} %"
        unit = next((f" {UNITS[word]}" for word in self.name.split("_") if word in UNITS), "")
        return f"{value:.4g}{unit}" if isinstance(value, float) else f"{value}{unit}"


@dataclass(frozen=True)
class Report:
    """The result of one check on one target.

    ``started_at`` and ``finished_at`` are Unix seconds; ``inputs`` says what was asked for and never
    holds a secret; ``samples`` is the path of the kept samples, if the check keeps any; ``facts`` is what
    was measured and is worth knowing, but decides nothing.
    """

    check: str
    target: str
    findings: tuple[Finding, ...]
    started_at: float = 0.0
    finished_at: float = 0.0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    samples: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        return combine(finding.verdict for finding in self.findings)

    @property
    def summary(self) -> str:
        """One line: the verdict and the findings that decided it."""
        deciding = [str(f) for f in self.findings if f.verdict is self.verdict]
        if self.verdict is Verdict.PASSED:
            deciding = [f"{f.name} {f.shown(f.measured)}" for f in self.findings]
        return f"{self.target}: {self.check}: {self.verdict}: {', '.join(deciding) or 'nothing was measured'}"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it; a fact also stands at the top, where no field has its name."""
        shown = dataclasses.asdict(self) | {"verdict": self.verdict, "summary": self.summary}
        return {**self.facts, **shown}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, default=str)


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Add verdicts up: the worst of them, and nothing at all is unknown."""
    seen = set(verdicts)
    for verdict in WORST_FIRST:
        if verdict in seen:
            return verdict
    return Verdict.UNKNOWN


# A window says the same of itself look after look.
@functools.lru_cache(maxsize=1024, typed=True)
def compare(
    name: str, measured: Measured, operator: str, limit: Measured, hint: str = "", sentence: str = ""
) -> Finding:
    """Hold a measured value against a limit; what was not measured, or is not a number, is unknown."""
    verdict = Verdict.UNKNOWN
    if not _is_number_or_text(measured):
        measured = None
    elif _is_number_or_text(limit):
        with contextlib.suppress(TypeError):
            verdict = Verdict.PASSED if OPERATORS[operator](measured, limit) else Verdict.FAILED
    return Finding(name, measured, operator, limit, verdict, hint, sentence)


def require(name: str, measured: Measured, operator: str, limit: Measured, hint: str = "") -> Finding:
    """Hold a condition for passing against its limit: where it does not hold, nothing is known."""
    found = compare(name, measured, operator, limit, hint)
    return found if found.verdict is Verdict.PASSED else replace(found, verdict=Verdict.UNKNOWN)


def held(found: Finding) -> Finding:
    """Take a failed finding for held: the harm is there, and may be somebody else's."""
    return replace(found, verdict=Verdict.HELD) if found.verdict is Verdict.FAILED else found


def observe(found: Finding) -> Finding:
    """Show what a finding says, and have it decide nothing."""
    if found.verdict is Verdict.PASSED:
        return found
    return replace(found, verdict=Verdict.PASSED, hint="", sentence=f"{OBSERVED}{replace(found, hint='')}")


def unmeasurable(error: Exception) -> Finding:
    """Say for a report why nothing could be measured."""
    return Finding("measurable", None, "==", 1, Verdict.UNKNOWN, sentence=str(error))


def _is_number_or_text(value: Measured) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
