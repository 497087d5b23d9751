"""Two slots with known ratios of errors and other events, minute by minute, as a window samples them."""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

HEALTHY: Mapping[str, float] = {"errors": 0.001, "busy": 0.002, "slow": 0.02, "retries": 0.01}


@dataclass
class Slot:
    """One slot with its ratios of events; its counters count up as an instance's and the balancer's do."""

    name: str
    per_minute: int
    ratios: Mapping[str, float]

    def __post_init__(self) -> None:
        self.requests = 0
        self.events = dict.fromkeys(self.ratios, 0)

    def serve(self, chance: random.Random) -> None:
        self.requests += self.per_minute
        for event, ratio in self.ratios.items():
            self.events[event] += happened(chance, self.per_minute, ratio)

    def server(self) -> dict[str, Any]:
        return {"slot": self.name, "requests": self.requests, "errors": self.events["errors"], "up": True}

    def instance(self) -> dict[str, Any]:
        slow = self.events["slow"]
        return {
            **{"started": 1.0, "deadlocks": 0, "unjudged": 0, "resident_mb": 80.0},
            **{name: self.events[name] for name in ("busy", "retries")},
            "latency": {"0.1": self.requests - slow, "0.5": slow},
        }


def happened(chance: random.Random, trials: int, ratio: float) -> int:
    """How many of so many requests had an event: binomial, by the gaps between events."""
    if ratio >= 1:
        return trials
    found, place = 0, 0
    while ratio > 0:
        place += 1 + int(math.log(1.0 - chance.random()) / math.log1p(-ratio))
        if place > trials:
            break
        found += 1
    return found


def minutes(
    seed: int, looks: int, worse: Mapping[str, float], per_minute: tuple[int, int] = (100, 100)
) -> Iterator[dict[str, Any]]:
    """Yield a sample at the start and after every minute; the candidate, green, has the ``worse`` ratios."""
    chance = random.Random(seed)
    slots = [
        Slot("green", per_minute[0], {**HEALTHY, **worse}),
        Slot("blue", per_minute[1], HEALTHY),
    ]
    for minute in range(looks + 1):
        yield {
            "at": 60.0 * minute,
            "servers": {slot.name: slot.server() for slot in slots},
            "instances": {slot.name: slot.instance() for slot in slots},
        }
        for slot in slots:
            slot.serve(chance)
