"""Show a report: one screen of text, JSON, JUnit XML for CI's test tab, Markdown for its summary page."""

import json
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.etree import ElementTree

from checks.base.report import WORST_FIRST, Finding, Report, Verdict

# What a terminal shows without scrolling; JSON holds the rest.
SCREEN_LINES = 40
SCREEN_COLUMNS = 150
# XML 1.0 has no way to write these.
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_text(report: Report, columns: int | None = None) -> str:
    """One screen: the verdict, the findings (the deciding ones first), what is worth knowing beside."""
    columns = columns or min(SCREEN_COLUMNS, shutil.get_terminal_size((SCREEN_COLUMNS, 0)).columns)
    width = max((len(finding.verdict) for finding in report.findings), default=0)
    lines = [report.summary]
    lines += [f"  {finding.verdict:<{width}}  {finding}" for finding in ordered(report.findings)]
    lines += [f"  {name}: {_plain(value)}" for name, value in report.facts.items()]
    lines.append(f"  took {report.finished_at - report.started_at:.1f} s, from {_moment(report.started_at)}")
    if report.samples:
        lines.append(f"  samples: {report.samples}")
    if len(lines) > SCREEN_LINES:
        left = len(lines) - SCREEN_LINES + 1
        lines = [*lines[: SCREEN_LINES - 1], f"  … and {left} more lines: see --json"]
    return "\n".join([lines[0], *(_cut(line, columns) for line in lines[1:])])


def as_junit(report: Report) -> str:
    """JUnit XML: a test case per finding; failed is a failure, unknown an error.

    A report that found nothing has one case, in error, so that no reader takes it for a success.
    """
    seconds = f"{max(0.0, report.finished_at - report.started_at):.3f}"
    findings = report.findings or (
        Finding("measured", None, "==", 1, Verdict.UNKNOWN, "Nothing was measured."),
    )
    verdicts = [finding.verdict for finding in findings]
    failed, unknown = (str(verdicts.count(verdict)) for verdict in (Verdict.FAILED, Verdict.UNKNOWN))
    counts = {"tests": str(len(findings)), "failures": failed, "errors": unknown, "time": seconds}
    root = ElementTree.Element("testsuites", {"name": "p12 check", **counts})
    name = _xml(f"{report.target}.{report.check}")
    moment = datetime.fromtimestamp(report.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": name, **counts, "skipped": "0", "timestamp": moment}
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in {**report.inputs, "samples": report.samples, "verdict": report.verdict}.items():
        ElementTree.SubElement(properties, "property", {"name": _xml(key), "value": _xml(_plain(value))})
    for finding in findings:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": name, "name": _xml(finding.name), "time": "0"}
        )
        if finding.verdict is not Verdict.PASSED:
            kind = "failure" if finding.verdict is Verdict.FAILED else "error"
            shown = ElementTree.SubElement(
                case, kind, {"message": _xml(str(finding)), "type": str(finding.verdict)}
            )
            shown.text = _xml(finding.hint or report.summary)
    facts = "\n".join(f"{key}: {_plain(value)}" for key, value in report.facts.items())
    ElementTree.SubElement(suite, "system-out").text = _xml(f"{report.summary}\n{facts}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def as_markdown(report: Report) -> str:
    """Markdown for a CI page: a heading with the verdict, the findings as a table, then the facts."""
    lines = [
        f"## {_cell(report.check)} on {_cell(report.target)}: {report.verdict}",
        "",
        f"{_moment(report.started_at)}, took {report.finished_at - report.started_at:.1f} s"
        + (f", samples in `{report.samples}`" if report.samples else ""),
        "",
        "| verdict | finding | measured | limit | hint |",
        "|---|---|--:|--:|---|",
    ]
    for found in ordered(report.findings):
        mark = f"**{found.verdict}**" if found.verdict is not Verdict.PASSED else f"{found.verdict}"
        hint = found.hint if found.verdict is not Verdict.PASSED else ""
        limit = f"{found.operator} {found.shown(found.limit)}"
        cells = (found.name, found.shown(found.measured), limit, f"{found.sentence} {hint}")
        lines.append(f"| {mark} | {' | '.join(map(_cell, cells))} |")
    if not report.findings:
        lines.append("| **unknown** | nothing was measured | | | |")
    if report.facts:
        lines += ["", *(f"- {_cell(name)}: {_cell(_plain(value))}" for name, value in report.facts.items())]
    return "\n".join(lines)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, the deciding ones first, otherwise as they were found."""
    return sorted(findings, key=lambda finding: WORST_FIRST.index(finding.verdict))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _cut(line: str, columns: int) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= columns else f"{line[: columns - 1]}…"


def _cell(text: str) -> str:
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", " ".join(text.split()))


def _xml(text: str) -> str:
    return NOT_IN_XML.sub("�", str(text))
