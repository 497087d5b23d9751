"""A burst's samples as they are kept: one JSON document with a format, checked when it is read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checks.base import command
from checks.base.errors import CannotMeasure
from checks.base.structure import NUMBER, Each, Either, fit

# Raise the number when a reader of the old one would misunderstand the new one.
FORMAT = "p12 burst 2"

COUNT = {
    "database": {"deadlocks": int, "stats_reset": str, "started": str},
    "instances": Each(Either(({"started": NUMBER, "errors": Each(NUMBER)}, {"error": str}))),
}
MOMENT = {"wall": NUMBER, "monotonic": NUMBER}
VOLLEY = {
    "salvo": int,
    "level": int,
    "shape": str,
    "visitors": str,
    "in_flight_peak": int,
    "write_ms": NUMBER,
    # status, milliseconds since the volley was due, outcome or error, release, kind
    "hits": [(Either((int, None)), NUMBER, str, Either((str, None)), str)],
}
MEASURED = {
    "began": MOMENT,
    "ended": MOMENT,
    "instances": [str],
    "planned": [(int, str, str)],
    "volleys": [VOLLEY],
    "limits": {
        "route": str,
        "limit": int,
        "expected": int,
        "passed": int,
        "statuses": [Either((int, None))],
    },
    "before": COUNT,
    "after": COUNT,
    "peaks": {"looks": int, "most": Each(int), "error": str},
    "settings": {"max_connections": int, "superuser_reserved_connections": int},
    "log": Either(({"asked": bool, "deadlocks": int, "pairs": [str]}, {"asked": bool, "error": str})),
    "booked": Each(Each({"accepted": int, "unknown": int})),
    "counted": Each({"views": Either((int, None)), "logged": int, "queued": int}),
    "tallied": Each(Each((int, int))),
}


def write(path: Path, inputs: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """Keep a burst."""
    kept = {"format": FORMAT, "inputs": inputs, "measured": measured}
    command.write_atomically(path, json.dumps(kept) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a kept burst; raises CannotMeasure, saying where, if it is none, or of another version."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CannotMeasure(
            f"{path} holds no kept burst: {error}. Name a file that --samples wrote."
        ) from None
    found = kept.get("format", "a burst without a format") if isinstance(kept, dict) else type(kept).__name__
    if found != FORMAT:
        raise CannotMeasure(
            f"{path} is {found!r}, and this kit reads {FORMAT!r}. Replay it with the kit it is of."
        )
    try:
        fit(kept, {"inputs": {"target": str}, "measured": dict}, "the file")
    except ValueError as error:
        raise CannotMeasure(f"{path} is damaged: {error}. Fire again.") from None
    return dict(kept)


def sound(measured: Any) -> None:
    """Raise CannotMeasure, naming the place, unless these are the whole measurements of one burst."""
    try:
        fit(measured, MEASURED, "measured")
        _complete(measured)
    except ValueError as error:
        raise CannotMeasure(f"What was measured is damaged: {error}. Fire again.") from None


def _complete(measured: Mapping[str, Any]) -> None:
    """Raise ValueError if a part of the whole is missing that has its proper structure otherwise."""
    planned = measured["planned"]
    fired: dict[int, Mapping[str, Any]] = {volley["salvo"]: volley for volley in measured["volleys"]}
    if not planned or sorted(fired) != [*range(1, len(planned) + 1)]:
        raise ValueError(f"of {len(planned)} planned salvos {len(fired)} are there")
    for volley in measured["volleys"]:
        asked = [volley["level"], volley["shape"], volley["visitors"]]
        if volley["in_flight_peak"] > volley["level"]:
            raise ValueError(f"salvo {volley['salvo']} had more requests in flight than it has")
        if asked != list(planned[volley["salvo"] - 1]) or len(volley["hits"]) != volley["level"]:
            raise ValueError(f"salvo {volley['salvo']} has {len(volley['hits'])} hits of {asked}")
    instances = set(measured["instances"])
    if set(measured["before"]["instances"]) != instances or set(measured["after"]["instances"]) != instances:
        raise ValueError(f"other instances are counted than the {len(instances)} that were asked")
    if any(shape == "mix" for _, shape, _ in planned) and set(measured["tallied"]) != {"like", "report"}:
        raise ValueError(f"only {sorted(measured['tallied'])} are tallied")
    if "pooler_clients" in measured["peaks"]["most"] and "max_client_conn" not in measured["settings"]:
        raise ValueError("the pooler's clients are counted and its limit is not known")
    if set(measured["booked"]) != {"view", "like", "report"}:
        raise ValueError(f"only {sorted(measured['booked'])} are booked")
    if any(set(notes) != set(measured["counted"]) for notes in measured["booked"].values()):
        raise ValueError("other notes are counted than were fired at")
