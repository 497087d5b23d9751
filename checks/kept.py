"""Windows kept as JSON Lines: the question in the first line, then one sample a line, replayable offline."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from checks import command
from checks.errors import CannotMeasure, Misused
from checks.judge import Judgement, WindowLimits, judge
from checks.report import Finding, Report, Verdict


@dataclass(frozen=True)
class Question:
    """What a window is to answer: which slot is judged, beside which, against what."""

    target: str
    candidate: str
    control: str | None
    limits: WindowLimits

    def to_line(self) -> str:
        """The first line of a kept window, without the newline."""
        return json.dumps({"window": asdict(self)}, sort_keys=True)


def to_line(sample: Mapping[str, Any]) -> str:
    """A sample's line in a kept window, without the newline."""
    return json.dumps(sample, sort_keys=True)


def read(path: Path, question: Question | None = None) -> tuple[Question, list[dict[str, Any]]]:
    """Read a kept window back; ``question`` is for a file that holds samples alone.

    A line that is not JSON (a torn write) is read as a sample that says nothing, so it breaks its segment.
    Raises CannotMeasure for a file that cannot be read, or does not say what was asked when nobody else does.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if question is None:
            asked = json.loads(lines.pop(0))["window"]
            question = Question(**asked | {"limits": WindowLimits(**asked["limits"])})
    except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
        message = f"{path} is not a kept window ({error!r}). Its first line must say what was asked."
        raise CannotMeasure(message) from error
    return question, [sample for line in lines if "window" not in (sample := _sample(line))]


def _sample(line: str) -> dict[str, Any]:
    try:
        sample = json.loads(line)
    except ValueError:
        return {}
    return sample if isinstance(sample, dict) else {}


def report(
    question: Question, judgement: Judgement, started_at: float, finished_at: float, samples: Path | None
) -> Report:
    """Show a judgement as a report; a window still open is unknown, whatever it has found so far."""
    findings = judgement.findings
    if judgement.verdict is None:
        findings += (Finding("window_closed", 0, "==", 1, Verdict.UNKNOWN, "The window is still open."),)
    return Report(
        check="window",
        target=question.target,
        findings=findings,
        started_at=started_at,
        finished_at=finished_at,
        inputs=asdict(question),
        samples=str(samples) if samples else None,
        facts={
            "elapsed_seconds": round(judgement.elapsed_seconds, 3),
            "requests": judgement.requests,
            "errors": judgement.errors,
            "broken_segments": judgement.broken_segments,
        },
    )


def replay(path: Path, question: Question | None = None) -> Report:
    """Judge a kept window again, from nothing but its file."""
    question, samples = read(path, question)
    judgement = judge(question.limits, samples, question.candidate, question.control)
    times = [sample["at"] for sample in samples if isinstance(sample.get("at"), int | float)] or [0.0]
    return report(question, judgement, times[0], times[-1], path)


def main(argv: Sequence[str]) -> int:
    """``python -m checks judge --samples FILE``: judge a kept window again."""
    parser = command.parser("judge", "Judge a kept window again, offline.")
    parser.add_argument("--samples", type=Path, required=True, metavar="FILE")
    alone = parser.add_argument_group("for a file of samples alone")
    alone.add_argument("--candidate", metavar="SLOT", help="the slot that is judged")
    alone.add_argument("--control", metavar="SLOT", help="the slot that serves beside it, if one does")
    alone.add_argument("--limits", metavar="JSON", help='such as {"seconds": 60, "max_seconds": 180, …}')
    args = parser.parse_args(argv)
    if not args.samples.exists():
        raise Misused(f"{args.samples} does not exist. Name the window's kept samples.")
    asked = _asked(args) if args.limits else None
    return command.answer(args, "window", time.time, lambda: replay(args.samples, asked))


def _asked(args: argparse.Namespace) -> Question:
    if not args.candidate:
        raise Misused("--limits needs --candidate: say which slot is judged.")
    try:
        limits = WindowLimits(**json.loads(args.limits))
    except (TypeError, ValueError) as error:
        raise Misused(f"--limits is not a set of window limits: {error}") from error
    return Question(args.target, args.candidate, args.control, limits)
