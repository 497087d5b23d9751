"""Prometheus text, as an instance's ``/internal/metrics`` has it."""

import math
import re
from collections.abc import Iterator

SERIES = re.compile(r"^(p12_\w+)(?:\{(.*)\})?\s+(\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def series_in(text: str) -> Iterator[tuple[str, str, float]]:
    """Yield name, labels as written, and value (NaN for what is no number) of every series of the service."""
    for name, labels, value in SERIES.findall(text):
        yield name, labels, number(value)


def label(labels: str, name: str) -> str:
    """The value of a label, empty without one."""
    return next((value for found, value in LABEL.findall(labels) if found == name), "")


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
