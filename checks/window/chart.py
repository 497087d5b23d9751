"""Small charts as inline SVG: lines over the minutes of a window. Nothing in them is not escaped."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 900.0, 150.0, 52.0, 8.0, 22.0


@dataclass(frozen=True)
class Line:
    """One line: its name, the name of its colour, and a value for each moment, None for none."""

    name: str
    color: str
    values: Sequence[float | None]
    is_thin: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over the same moments, in seconds; ``limit`` is drawn across, ``mark`` upright."""

    title: str
    note: str
    lines: Sequence[Line]
    at: Sequence[float]
    show: Callable[[float], str]
    limit: float | None = None
    mark: float | None = None
    is_log: bool = False
    # The least that the highest tick is.
    least: float = 0.0

    def svg(self) -> str:
        """The chart with its title and key; empty where there is nothing to draw."""
        known = [value for line in self.lines for value in line.values if value is not None]
        if not known or len(self.at) < 2:
            return ""
        low, high, ticks = self._scale(known)
        body = [*self._grid(low, high, ticks), *self._minutes()]
        for line in self.lines:
            body.append(self._path(line, low, high))
        body += list(self._over())
        key = "".join(
            f'<span style="--c:var(--{escape(line.color)})"><i{" class=thin" if line.is_thin else ""}></i>'
            f"{escape(line.name)}</span>"
            for line in self.lines
        )
        return (
            f'<section><div class="head"><h2>{escape(self.title)}</h2><div class="key">{key}</div></div>'
            f'<p class="soft">{escape(self.note)}</p>'
            f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT + BOTTOM:g}" role="img" aria-label="{escape(self.title)}">'
            f"{''.join(body)}</svg></section>"
        )

    def _scale(self, known: Sequence[float]) -> tuple[float, float, list[float]]:
        if self.is_log:
            low = 10 ** math.floor(math.log10(max(min(known), 0.1)))
            high = 10 ** math.ceil(math.log10(max(*known, 10 * low)) + 1e-9)
            return (
                low,
                high,
                [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)],
            )
        top = max(*known, self.limit or 0.0, self.least, 1e-9)
        step = _nice(top / 3)
        high = step * math.ceil(1.05 * top / step)
        return 0.0, high, [step * n for n in range(round(high / step) + 1)]

    def x(self, at: float) -> float:
        first, last = self.at[0], self.at[-1]
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - first) / max(last - first, 1e-9)

    def y(self, value: float, low: float, high: float) -> float:
        if self.is_log:
            value, low, high = (math.log10(max(one, 1e-3)) for one in (value, low, high))
        return HEIGHT - (HEIGHT - 8) * (min(max(value, low), high) - low) / (high - low)

    def _grid(self, low: float, high: float, ticks: Sequence[float]) -> Iterator[str]:
        for tick in ticks:
            y = self.y(tick, low, high)
            yield f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{escape(self.show(tick))}</text>'
        if self.limit is not None:
            y = self.y(self.limit, low, high)
            yield f'<line class="fails" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text class="fails" x="{WIDTH - RIGHT:g}" y="{y - 5:.1f}" text-anchor="end">fails</text>'
        if self.mark is not None:
            x = self.x(self.mark)
            yield f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{HEIGHT:g}"/>'

    def _minutes(self) -> Iterator[str]:
        span = self.at[-1] - self.at[0]
        unit, name = (60.0, "min") if span >= 180 else (1.0, "s")
        step = _nice(span / unit / 6) * unit
        for n in range(math.floor(span / step) + 1):
            x = self.x(self.at[0] + n * step)
            said = f"{n * step / unit:g}{f' {name}' if n == 0 else ''}"
            yield f'<text x="{x:.1f}" y="{HEIGHT + 18:g}" text-anchor="middle">{said}</text>'

    def _path(self, line: Line, low: float, high: float) -> str:
        parts, is_down = [], False
        for at, value in zip(self.at, line.values, strict=True):
            if value is not None:
                parts.append(f"{'L' if is_down else 'M'}{self.x(at):.1f} {self.y(value, low, high):.1f}h0")
            is_down = value is not None
        return (
            f'<path style="--c:var(--{escape(line.color)})"{" class=thin" if line.is_thin else ""}'
            f' d="{"".join(parts)}"/>'
        )

    def _over(self) -> Iterator[str]:
        """What is shown where the pointer is."""
        for place, at in enumerate(self.at):
            left = self.x(self.at[max(place - 1, 0)])
            told = [f"{_clock(at)}"]
            for line in self.lines:
                value = line.values[place]
                told.append(f"{line.name}: {'none' if value is None else self.show(value)}")
            width = max(self.x(at) - left, 1.0)
            yield (
                f'<rect class="over" x="{left:.1f}" y="4" width="{width:.1f}" height="{HEIGHT - 4:g}">'
                f"<title>{escape(chr(10).join(told))}</title></rect>"
            )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _nice(step: float) -> float:
    """The next larger of 1, 2, 2.5, 5, 10, … times a power of ten."""
    power = 10 ** math.floor(math.log10(max(step, 1e-9)))
    return float(next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= step * 0.999))
