"""What the windows of a release hand on to the next one, so that trying again launders nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# No evidence is more than this on the scale of ln; what says so is damaged.
LARGEST_LN = 500.0
# Of each arm its requests, and trials and events of each kind that is proven absent.
SUMS = 12
LARGEST_BUCKET = 10_000


@dataclass(frozen=True)
class Carried:
    """Evidence of the windows before: ``{"streams": [[class, route, ln E, new, its events, old, its events],
    …], "sums": what ``passing`` sums up, "above": what lay beyond the tolerable, "tails": [[class, route,
    where its slow answers begin in buckets above the level, learned from so many], …], "warm": whether the
    candidate's latency is level, "usual": how slow the control usually is, as a ln, or None}``; the last
    three may be missing.

    Raises ValueError for what is none.
    """

    streams: Mapping[tuple[str, str], tuple[float, list[float]]] = field(default_factory=dict)
    sums: tuple[float, ...] = (0.0,) * SUMS
    above: tuple[str, ...] = ()
    tails: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    is_warm: bool = False
    usual: float | None = None

    @classmethod
    def read(cls, value: Mapping[str, Any] | None) -> "Carried":
        if not value:
            return cls()
        try:
            streams = {
                (str(of), str(route)): (_number(ln_e), [_count(n) for n in (n_t, k_t, n_c, k_c)])
                for of, route, ln_e, n_t, k_t, n_c, k_c in value["streams"]
            }
            sums = tuple(_count(number) for number in value["sums"])
            above = tuple(str(words) for words in value["above"])
            tails = {
                (str(of), str(route)): (_bucket(edge), round(_count(answers)))
                for of, route, edge, answers in value.get("tails", ())
            }
            usual = None if value.get("usual") is None else _number(value["usual"])
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"what the windows before came to cannot be read: {error!r}") from error
        if len(sums) != SUMS:
            raise ValueError(f"what the windows before came to has {len(sums)} sums, not {SUMS}")
        return cls(streams, sums, above, tails, value.get("warm") is True, usual)

    def to_dict(self) -> dict[str, Any]:
        return {
            "streams": [
                [*key, round(ln_e, 6), *(round(n, 3) for n in counts)]
                for key, (ln_e, counts) in sorted(self.streams.items())
            ],
            "sums": [round(number, 3) for number in self.sums],
            "above": list(self.above),
            "tails": [[*key, *tail] for key, tail in sorted(self.tails.items())],
            "warm": self.is_warm,
            "usual": None if self.usual is None else round(self.usual, 6),
        }

    def evidence(self, of: str, route: str = "") -> float:
        """The evidence E of a stream; 1, which is none, where it had no events."""
        return math.exp(self.streams.get((of, route), (0.0, []))[0])

    def counts(self, of: str, route: str) -> list[float]:
        return list(self.streams.get((of, route), (0.0, [0.0] * 4))[1])


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= LARGEST_LN:
        raise ValueError(f"{value!r} is no evidence")
    return float(value)


def _count(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no count")
    return float(value)


def _bucket(value: Any) -> int:
    if type(value) is not int or not abs(value) <= LARGEST_BUCKET:
        raise ValueError(f"{value!r} is no bucket of latency")
    return value
