"""The page that shows why: complete in itself, and whatever a sample holds is text in it."""

import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from checks.window.limits import WindowLimits
from checks.window.page import page
from checks.window.samples import Question, main, replay, to_line
from checks.window.trace import MOST_POINTS, Trace
from tests.simulated_causes import answers
from tests.simulated_requests import NEW, OLD, World, samples

HOSTILE = "<script>alert('&')</script>"
LIMITS = WindowLimits(600, 1800, 100, 0.01, watch_database=False, by_request=True)


def kept(path: Path, world: World, with_log: bool = True, seconds: int = 700) -> Path:
    """A window of a release with a hostile name, some of whose failed requests have one too."""
    limits = LIMITS if with_log else WindowLimits(600, 900, 100, 0.01, watch_database=False)
    lines = [Question("production", NEW, OLD, limits, None, "id", "step", HOSTILE, 25).to_line()]
    for number, sample in enumerate(samples(3, seconds, 600, 0.25, world)):
        if number == 3:
            sample["requests"]["failures"] = [[12, HOSTILE, 500, HOSTILE, HOSTILE], ["?"]]
        if not with_log:
            del sample["requests"]
        lines.append(to_line(sample))
    path.write_text("\n".join(lines) + "\n")
    return path


def shown(path: Path) -> str:
    trace = Trace()
    return page(replay(path, None, trace.add), trace)


class Tags(HTMLParser):
    """Which tags there are, and which addresses they name; unclosed ones stay in ``open``."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.open: list[str] = []
        self.addresses: list[str | None] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    return kept(tmp_path / "samples.jsonl", answers({"5xx": 0.05}, 120)(random.Random(1)))


def test_the_page_shows_verdict_counts_errors_latency_evidence_findings_and_failures(failed: Path) -> None:
    html = shown(failed)

    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == [
        "Requests a second",
        "Failed requests",
        "Latency",
        "Evidence against the new slot",
        "Findings",
        "First failed requests",
    ]
    assert 'class="pill failed">failed<' in html
    assert "errors: new " in html


def test_the_page_needs_no_network_and_runs_nothing(failed: Path) -> None:
    html = shown(failed)

    tags = parsed(html)
    assert tags.addresses == []
    assert not {"script", "link", "img", "iframe"} & tags.names
    assert "url(" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_what_samples_hold_is_text(failed: Path) -> None:
    html = shown(failed)

    assert HOSTILE not in html
    assert html.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") >= 4


def test_a_window_of_before_there_was_a_request_log_has_the_same_verdict_and_its_charts(
    tmp_path: Path,
) -> None:
    path = kept(tmp_path / "samples.jsonl", World(), with_log=False, seconds=900)

    html = shown(path)

    assert f'class="pill {replay(path).verdict}">' in html
    assert "Requests a second" in html
    assert "Failed requests" in html


def test_the_sites_own_signals_have_a_chart_each(tmp_path: Path) -> None:
    path = kept(tmp_path / "samples.jsonl", World(), seconds=100)
    first, *lines = path.read_text().splitlines()
    read = [json.loads(line) | {"signals": {"notes_per_minute": {"at": 1.0, "value": 7}}} for line in lines]
    path.write_text("\n".join([first, *map(json.dumps, read)]) + "\n")

    assert "<h2>notes per minute</h2>" in shown(path)


def test_a_long_window_is_as_small_as_a_picture(tmp_path: Path) -> None:
    trace = Trace()
    replay(kept(tmp_path / "samples.jsonl", World(), seconds=7200), None, trace.add)

    assert MOST_POINTS / 2 <= len(trace.moments) <= MOST_POINTS
    assert sum(moment.seconds for moment in trace.moments) == pytest.approx(7190, abs=10)


@pytest.mark.parametrize(
    "sample", [{}, {"at": 1.0}, {"at": 1.0, "requests": {"cells": [[1]], "failures": 3}}]
)
def test_samples_that_say_nothing_make_a_page_all_the_same(tmp_path: Path, sample: Any) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(f"{Question('production', NEW, OLD, LIMITS).to_line()}\n{to_line(sample)}\n")

    assert 'class="pill unknown">' in shown(path)


def test_the_command_writes_the_page(
    failed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([str(failed), "--html", str(tmp_path / "page.html")])

    assert status == 3
    assert "failed" in capsys.readouterr().out
    parsed((tmp_path / "page.html").read_text())
