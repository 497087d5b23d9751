"""What a window says to a person: in few lines, the most telling first."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from checks.base.report import OBSERVED, Finding, Verdict
from checks.window.absence import Proof, points
from checks.window.judge import Judgement

# So many reasons are told; whoever wants the others looks at the report.
TOLD = 3
REST = "./p12 evidence"
PROOFS = "_at_most_ratio"
# What a window waits for by itself is told last.
LAST = ("requests", "watched_seconds", "timed_requests")
# So much of its limit makes a comparison worth more than that of errors.
NEAR, ERRORS = 1 / 3, ("failed", "errors")
SHORT = {"slow": "slow answers", "missing": "missing answers"}


def summarise(judgement: Judgement) -> str:
    """One line of a closed window: how much was seen, and what it proved, or why it did not pass."""
    seen = f"{judgement.requests} requests, {judgement.errors} errors in {judgement.watched_seconds:.0f} s"
    if judgement.verdict is Verdict.PASSED:
        observed = [found for found in judgement.findings if found.sentence.startswith(OBSERVED)]
        return "; ".join([seen, *([proved(judgement.proofs)] if judgement.proofs else []), *_few(observed)])
    if judgement.verdict is Verdict.UNKNOWN:
        return f"{seen}: {'; '.join(reasons(judgement))}"
    deciding = [found for found in judgement.findings if found.verdict is judgement.verdict]
    failing = [judgement.failing] if judgement.failing else []
    return f"{seen}: {'; '.join([*_few(deciding), *failing])}"


def standing(judgement: Judgement) -> dict[str, Any]:
    """How an open window stands, for whoever looks: counts, its strongest evidence, what it waits for."""
    return {
        "requests": judgement.requests,
        "errors": judgement.errors,
        "watched_seconds": round(judgement.watched_seconds, 1),
        "evidence": strongest(judgement.findings),
        "waiting_for": reasons(judgement),
    }


def reasons(judgement: Judgement) -> list[str]:
    """Why a window did not pass so far, the most telling first."""
    waiting = [found for found in judgement.findings if found.verdict is not Verdict.PASSED]
    lacking = [found for found in waiting if found.name.endswith(PROOFS)]
    others = [found for found in waiting if found not in lacking]
    blind = [found for found in others if found.measured is None] if judgement.broken else []
    why = [f"not watched, since {'; '.join(dict.fromkeys(judgement.broken))}"] if blind else []
    others = [found for found in others if found not in blind]
    first = [found for found in others if found.name not in LAST]
    needs = [needed(judgement.proofs, judgement.per_second)] if lacking and judgement.proofs else []
    last = [found for found in others if found.name in LAST]
    return [*why, *_few(first), *needs, *_few(last)][: TOLD + 1]


def proved(proofs: Sequence[Proof]) -> str:
    """What was proven to be absent, as far as it is short: errors, slow answers, missing ones."""
    known = {proof.name: proof for proof in proofs}
    errors = known["errors"]
    more = [f"{words} {proof_text(known[name])}" for name, words in SHORT.items() if name in known]
    return "; ".join([f"errors at most {proof_text(errors)} above {errors.beside} (95 %)", *more])


def needed(proofs: Sequence[Proof], per_second: float) -> str:
    """How many more requests prove what is not proven yet, if they are as those before."""
    lacking = [proof for proof in proofs if not proof.holds]
    never = [proof for proof in lacking if proof.needs is None]
    proof = (never or sorted(lacking, key=lambda proof: proof.needs or 0))[-1]
    said = f"{SHORT.get(proof.name, proof.name)} may be {proof_text(proof)} above {proof.beside}"
    if proof.name == "missing":
        said = f"the new slot may lack {proof_text(proof)} of its answers"
    if proof.name.startswith("slow "):
        route, times = proof.name[5:], f"{proof.at_most:.2g} times as slow"
        return f"{proof.needed(per_second)}: {route} may be {times} (tolerable {proof.tolerable:g})"
    return f"{proof.needed(per_second)}: {said} (tolerable {points(proof.tolerable)})"


def strongest(findings: Iterable[Finding]) -> str:
    """The comparison that is nearest to failing, in words; that of errors where none is near."""
    compared = [
        (max(found.measured / found.limit, NEAR), found.name.startswith(ERRORS), found.sentence)
        for found in findings
        if "_against_" in found.name
        and isinstance(found.measured, int | float)
        and isinstance(found.limit, int | float)
    ]
    return max(compared)[2] if compared else ""


def proof_text(proof: Proof) -> str:
    """How far a harm can at most reach, as it is measured: points, or a part of all answers."""
    return f"{points(proof.at_most)} {'%' if proof.name == 'missing' else 'points'}"


def _few(findings: Sequence[Finding]) -> list[str]:
    """The first findings in words, each hint once, and how many were left out."""
    told: list[str] = []
    hints: set[str] = set()
    for found in findings[:TOLD]:
        told.append(str(replace(found, hint="" if found.hint in hints else found.hint)))
        hints.add(found.hint)
    left = len(findings) - TOLD
    return [*told, f"and {left} more: {REST}"] if left > 0 else told
