"""Show on one page why a window ended as it did; it needs no network and no script."""

import time
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from checks.base.formats import ordered
from checks.base.report import OBSERVED, Finding, Report, Verdict
from checks.window.absence import duration
from checks.window.chart import Chart, Line
from checks.window.trace import Moment, Trace
from checks.window.words import proof_text, summarise

STYLE = Path(__file__).with_name("page.css")
# What is near its limit is worth a line; of those the nearest.
NEAREST, NEAR = 4, 0.1
KINDS = {"errors": "more errors", "unwanted": "more unwanted", "slow": "more slow", "missing": "missing"}
COLORS = ("blue", "green", "third", "fourth")
FAILURES = 12


def page(report: Report, trace: Trace) -> str:
    """The page as HTML; whatever a sample holds is escaped."""
    question, judgement = report.inputs, trace.judgement
    verdict = str(judgement.verdict or Verdict.UNKNOWN)
    share = f"{question['share']} % on " if question.get("share") else ""
    title = f"{report.target}: {share}{question.get('release') or question['candidate']}"
    said = summarise(judgement) if judgement.verdict else "The window is still open."
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}: {verdict}</title><style>{STYLE.read_text()}</style></head><body><main>
<header><h1>{escape(title)}</h1><span class="pill {verdict}">{verdict}</span></header>
<p class="soft">{escape(_when(report, trace))}</p>
<p class="summary">{escape(said)}</p>
<div class="tiles">{"".join(_tiles(trace))}</div>
{"".join(chart.svg() for chart in _charts(report, trace))}
{_findings(report.findings)}
{_failures(trace)}
</main></body></html>
"""


def _when(report: Report, trace: Trace) -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.started_at))
    took = duration((trace.decided_at or report.finished_at - report.started_at) / 60)
    kind, window = report.inputs.get("kind") or "window", report.inputs.get("id") or ""
    new, old = report.inputs["candidate"], report.inputs.get("control")
    beside = f"{new} beside {old}" if old else f"{new} alone"
    return " · ".join(filter(None, (kind, beside, began, took, window)))


def _tiles(trace: Trace) -> Iterator[str]:
    judgement = trace.judgement
    tiles = [
        (f"{judgement.requests:,}".replace(",", " "), "requests, new slot"),
        (str(judgement.errors), "of them failed"),
        (duration(judgement.watched_seconds / 60), "watched"),
        *(
            (proof_text(proof), f"{KINDS[proof.name]}, at most")
            for proof in judgement.proofs
            if proof.name in KINDS
        ),
    ]
    for value, name in tiles:
        yield f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _charts(report: Report, trace: Trace) -> Iterator[Chart]:
    moments = trace.moments
    at, mark = [moment.at for moment in moments], trace.decided_at
    new, old = report.inputs["candidate"], report.inputs.get("control")
    slots = [slot for slot in (new, old) if slot]
    first = "The dotted line is the moment of the verdict." if mark is not None else ""

    def line(slot: str, values: Sequence[float | None], more: str = "", is_thin: bool = False) -> Line:
        name = f"{slot} ({'new' if slot == new else 'old'}){more}"
        return Line(name, slot if slot in COLORS else COLORS[slots.index(slot)], values, is_thin)

    def of(slot: str, moment: Moment) -> float | None:
        return moment.requests[slot] / moment.seconds if moment.seconds else None

    yield Chart(
        "Requests a second", first, [line(s, [of(s, m) for m in moments]) for s in slots], at, _few, mark=mark
    )
    ratios = [line(s, [m.error_ratio(s) for m in moments]) for s in slots]
    yield Chart(
        "Failed requests", "", ratios, at, lambda value: f"{100 * value:.3g} %", mark=mark, least=0.01
    )
    times = [
        line(s, [m.milliseconds(s, part) for m in moments], f" {name}", is_thin=name == "p50")
        for s in slots
        for part, name in ((0.95, "p95"), (0.5, "p50"))
    ]
    yield Chart(
        "Latency",
        "",
        times,
        at,
        lambda value: f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s",
        mark=mark,
        is_log=True,
    )
    for name in dict.fromkeys(name for m in moments for name in m.signals):
        values = [m.signals.get(name) for m in moments]
        yield Chart(
            name.replace("_", " "), "", [Line("the site's signal", "third", values)], at, _few, mark=mark
        )
    yield Chart(
        "Evidence against the new slot",
        "As a part of what fails the window: the comparisons that came nearest to it.",
        _evidence(moments),
        at,
        lambda value: f"{value:.2g}",
        limit=1.0,
        mark=mark,
    )


def _evidence(moments: Sequence[Moment]) -> list[Line]:
    largest: dict[str, float] = {}
    for moment in moments:
        for name, value in moment.evidence.items():
            largest[name] = max(largest.get(name, 0.0), value)
    names = sorted(largest, key=lambda name: -largest[name])[:NEAREST]
    shown = [name for name in names if largest[name] >= NEAR] or names[:1]
    return [
        Line(
            name.removesuffix("_ln_e").replace("_against_control", "").replace("_", " "),
            color,
            [None if name not in m.evidence else max(m.evidence[name], 0.0) for m in moments],
        )
        for name, color in zip(shown, ("fourth", "third", "blue", "green"), strict=False)
    ]


def _few(value: float) -> str:
    return f"{value:.3g}"


def _findings(findings: Sequence[Finding]) -> str:
    """What decided first; what is as it should be stands behind a fold."""
    rows = [(found, _row(found)) for found in ordered(findings)]
    deciding = [row for found, row in rows if _is_told(found)]
    others = [row for found, row in rows if not _is_told(found)]
    fold = f"<details><summary>{len(others)} more passed</summary><table>{''.join(others)}</table></details>"
    return f"<section><h2>Findings</h2><table>{''.join(deciding)}</table>{fold if others else ''}</section>"


def _is_told(found: Finding) -> bool:
    return found.verdict is not Verdict.PASSED or found.sentence.startswith(OBSERVED)


def _row(found: Finding) -> str:
    return f'<tr><td class="{found.verdict}">{found.verdict}</td><td>{escape(str(found))}</td></tr>'


def _failures(trace: Trace) -> str:
    if not trace.failures:
        return ""
    rows = []
    for failure in trace.failures[:FAILURES]:
        try:
            second, route, status, instance, request = failure
            at = time.strftime("%H:%M:%S", time.gmtime(second))
        except (TypeError, ValueError, OverflowError, OSError):
            continue
        cells = "".join(f"<td>{escape(str(value))}</td>" for value in (at, route, status, instance))
        rows.append(f'<tr>{cells}<td class="mono">{escape(str(request))}</td></tr>')
    names = ("time", "route", "status", "instance", "request id, in both logs")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<section><h2>First failed requests</h2><table><tr>{head}</tr>{''.join(rows)}</table></section>"
