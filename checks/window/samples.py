"""Windows kept as JSON Lines, so that any verdict can be given again on any machine.

The first line says what was asked and by what it is judged; ``p12_window`` is the format's version:

    {"p12_window": 2, "id": …, "kind": "step", "target": …, "release": …, "share": 5, "candidate": "green",
     "control": "blue", "limits": {every WindowLimits field}, "baseline": null or {every Baseline field}}

Every other line is one sample, as ``judge.WindowJudge`` says. A line that is not JSON, such as one that a
crash cut short, is a sample that says nothing: it breaks its segment. So does an ``at`` that is no time.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from checks.base import command
from checks.base.errors import CannotMeasure, Misused
from checks.base.report import Finding, Report, Verdict
from checks.base.validation import validate
from checks.window.baseline import Baseline
from checks.window.before import Before
from checks.window.judge import Judgement, WindowJudge
from checks.window.limits import WindowLimits

FORMAT = 2
MARK = "p12_window"
# JSON has whole numbers of any length, arithmetic with floats only those of up to 308 digits.
ENDLESS, ALL_DIGITS_ALIKE = b"0" * 100, bytes.maketrans(b"0123456789", b"0" * 10)


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a window is to answer: which slot is judged, beside which, against what."""

    target: str
    candidate: str
    control: str | None
    limits: WindowLimits
    baseline: Baseline | None = None
    id: str = ""
    kind: str = ""
    release: str = ""
    share: int = 0
    # What the windows before of the same release came to.
    earlier: dict[str, Any] | None = None
    before: Before | None = None
    before_unknown: str = ""

    def to_line(self) -> str:
        """The first line of a kept window, without the newline."""
        return json.dumps({MARK: FORMAT, **msgspec.to_builtins(self)}, sort_keys=True)

    def judge(self) -> WindowJudge:
        """What judges a window that is about to be watched."""
        asked = (self.limits, self.candidate, self.control, self.baseline, self.share)
        return WindowJudge(*asked, earlier=self.earlier, before=self.before)


def to_line(sample: Mapping[str, Any]) -> str:
    """A sample's line in a kept window, without the newline."""
    return json.dumps(sample, sort_keys=True)


def samples_in(content: bytes) -> Iterator[dict[str, Any]]:
    """Give the samples of a kept window; the last line says nothing if its end is missing."""
    *lines, rest = content.split(b"\n")
    yield from map(_sample, lines[1:])
    if rest and lines:
        yield {}


def read(path: Path) -> tuple[Question, Iterator[dict[str, Any]]]:
    """Read a kept window back; raises CannotMeasure for a file that is none, or of another version."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CannotMeasure(f"{path} cannot be read: {error.strerror}.") from error
    return _question(path, content.split(b"\n", 1)[0]), samples_in(content)


def _question(path: Path, line: bytes) -> Question:
    no_window = f'{path} is not a kept window: its first line must be {{"{MARK}": {FORMAT}, …}}'
    try:
        asked = _loaded(line)
    except (ValueError, RecursionError) as error:
        raise CannotMeasure(f"{no_window}, and is no JSON that can be read: {error}.") from error
    if not isinstance(asked, dict) or MARK not in asked:
        raise CannotMeasure(f"{no_window}. Samples alone do not say by what they are judged.")
    if asked.pop(MARK) != FORMAT:
        raise CannotMeasure(
            f"{path} was kept in another format than {FORMAT}. Replay it with the kit of then."
        )
    try:
        question = validate(asked, Question, "the question")
        for name in ("limits", "baseline", "before"):
            known = msgspec.to_builtins(getattr(question, name)) or {}
            if unknown := {*(asked.get(name) or {})} - {*known}:
                raise ValueError(f"this kit knows no {', '.join(sorted(unknown))} of the {name}")
        question.judge()
    except ValueError as error:
        raise CannotMeasure(f"{path} does not say what was asked: {error}.") from error
    return question


def _sample(line: bytes) -> dict[str, Any]:
    try:
        sample = _loaded(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(sample, dict):
        return {}
    return sample if _is_time(sample.get("at")) else {**sample, "at": None}


def _loaded(line: bytes) -> Any:
    """Read a line's JSON; raises ValueError for what is none, and for a number that nothing can count to."""
    if ENDLESS in line.translate(ALL_DIGITS_ALIKE):
        raise ValueError("a number has 100 digits or more")
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        # Slower, and takes what only it writes, such as NaN.
        return json.loads(line)


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
        inputs=msgspec.to_builtins(question),
        samples=str(samples) if samples else None,
        facts={
            "elapsed_seconds": round(judgement.elapsed_seconds, 3),
            "requests": judgement.requests,
            "errors": judgement.errors,
            "broken_segments": judgement.broken_segments,
        },
    )


def replay(
    path: Path,
    changes: Mapping[str, Any] | None = None,
    seen: Callable[[Mapping[str, Any], Judgement], None] = lambda _, __: None,
) -> Report:
    """Judge a kept window again, from nothing but its file; ``changes`` are other limits.

    ``seen`` is told each sample, and how the window stood after it.

    Raises CannotMeasure for a file that is no kept window, Misused for changes that are no limits.
    """
    question, samples = read(path)
    if changes:
        try:
            limits = dataclasses.replace(question.limits, **changes)
            question = msgspec.structs.replace(question, limits=limits)
        except (TypeError, ValueError) as error:
            raise Misused(f"--limits: {error}") from error
    judging, times = question.judge(), []
    for sample in samples:
        seen(sample, judging.add(sample))
        if sample.get("at") is not None:
            times.append(float(sample["at"]))
    return report(question, judging.judgement, *((times[0], times[-1]) if times else (0.0, 0.0)), path)


def _is_time(value: Any) -> bool:
    """Whether a value is Unix seconds of a moment that has a date."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return False
    return True


def main(argv: Sequence[str]) -> int:
    """``python -m checks replay FILE``: judge a kept window again."""
    parser = command.parser("replay", "Judge a kept window again, offline.")
    parser.add_argument("file", type=Path, metavar="FILE", help="the samples.jsonl of a window")
    parser.add_argument("--limits", default="", metavar="NAME=VALUE,…", help="judge by other limits")
    parser.add_argument("--html", type=Path, metavar="FILE", help="show why, as a page")
    args = parser.parse_args(argv)
    if not args.file.is_file():
        raise Misused(f"{args.file} is not a file. Name the samples.jsonl of a window, in steer/windows/ID.")
    changes = parse_limits(args.limits)
    return command.answer(args, "window", lambda: _replay_and_show(args.file, changes, args.html))


def _replay_and_show(path: Path, changes: Mapping[str, Any], html: Path | None) -> Report:
    if html is None:
        return replay(path, changes)
    # Only who wants a page waits for what draws one.
    from checks.window.page import page
    from checks.window.trace import Trace

    trace = Trace()
    shown = replay(path, changes, trace.add)
    html.write_text(page(shown, trace), encoding="utf-8")
    return shown


def parse_limits(words: str) -> dict[str, Any]:
    """Read ``name=value,…``; raises Misused for a name that is no limit or a value that is no number."""
    types = {field.name: field.type for field in fields(WindowLimits)}
    numbers = [name for name, kind in types.items() if kind in (int, float, bool)]
    changes: dict[str, Any] = {}
    for word in filter(None, words.split(",")):
        name, _, value = word.partition("=")
        if name not in numbers:
            raise Misused(f"{name} is not a limit that can be tried. Use {', '.join(numbers)}.")
        changes[name] = _value(name, value, types[name])
    return changes


def _value(name: str, value: str, kind: Any) -> Any:
    try:
        return {"true": True, "false": False}[value] if kind is bool else kind(value)
    except (KeyError, ValueError):
        accepted = {bool: "true or false", int: "a whole number"}.get(kind, "a number")
        raise Misused(f"--limits {name}={value} is not a value of {name}. Use {accepted}.") from None
