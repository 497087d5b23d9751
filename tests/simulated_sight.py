"""Windows that cannot see: samples of a healthy service, spoiled, and what must be said of them."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.simulated_requests import NEW, OLD

Sample = dict[str, Any]
Spoil = Callable[[Iterator[Sample]], Iterator[Sample]]
SPOILED_AFTER = 60.0


def _late(change: Callable[[Sample], Sample]) -> Spoil:
    """Spoil each sample but those of the first minute."""
    return lambda samples: (change(taken) if taken["at"] > SPOILED_AFTER else taken for taken in samples)


def _no_data(taken: Sample) -> Sample:
    return {"at": taken["at"], "servers": {}, "instances": {}}


def frozen(samples: Iterator[Sample]) -> Iterator[Sample]:
    """From some moment on all is told again as it was then, and the log brings nothing."""
    last: Sample = {}
    for taken in samples:
        last = taken if taken["at"] <= SPOILED_AFTER else last
        quiet = {**last["requests"], "cells": [], "marks": {}, "clients": {}}
        yield taken if last is taken else {**last, "at": taken["at"], "requests": quiet}


def frozen_metrics(samples: Iterator[Sample]) -> Iterator[Sample]:
    """The instances' metrics stand still, while the balancer goes on."""
    for taken in samples:
        handled = round(min(taken["at"], SPOILED_AFTER))
        told = {name: {**told, "latency": {"0.1": 10 + handled}} for name, told in taken["instances"].items()}
        yield {**taken, "instances": told}


def dead_clock(samples: Iterator[Sample]) -> Iterator[Sample]:
    return ({**taken, "at": min(taken["at"], SPOILED_AFTER)} for taken in samples)


def _half_a_log(taken: Sample) -> Sample:
    found = taken["requests"]
    broken = [f"{len(found['cells'])} of {2 * len(found['cells'])} requests are missing from the request log"]
    return {**taken, "requests": {**found, "cells": found["cells"][::2], "marks": {}, "broken": broken}}


def restarted_haproxy(samples: Iterator[Sample]) -> Iterator[Sample]:
    """HAProxy starts anew in every look, and has counted less each time."""
    for taken in samples:
        left = 10_000 - round(taken["at"])
        servers = {
            name: {**server, "requests": left, "errors": 0} for name, server in taken["servers"].items()
        }
        anew = ["HAProxy started anew: what its last process logged is not accounted for"]
        yield {**taken, "servers": servers, "requests": {**taken["requests"], "broken": anew}}


def _renamed(taken: Sample) -> Sample:
    told = {
        name: {("dead_locks" if key == "deadlocks" else key): value for key, value in instance.items()}
        for name, instance in taken["instances"].items()
    }
    return {**taken, "instances": told}


def _same_name(taken: Sample) -> Sample:
    other = {NEW: OLD, OLD: NEW}
    servers = {name: {**server, "slot": other[name]} for name, server in taken["servers"].items()}
    return {**taken, "servers": servers}


# What is spoiled, and words of the reason that must be given.
SPOILED: dict[str, tuple[Spoil, str]] = {
    "no data": (lambda samples: map(_no_data, samples), "no server of slot green"),
    "no data after a minute": (_late(_no_data), "not measured at both ends"),
    "frozen data": (frozen, "silent"),
    "frozen metrics": (frozen_metrics, "metrics stand still"),
    "a dead clock": (dead_clock, "the clock went from"),
    "half a log": (_late(_half_a_log), "are missing from the request log"),
    "HAProxy that starts anew and again": (restarted_haproxy, "HAProxy started anew"),
    "a renamed metric": (_late(_renamed), "green: not measured at both ends"),
    "two instances of one name": (_late(_same_name), "green: of slot green until now, of blue as well"),
}
