"""A burst's samples as they are kept: one JSON document with a format, checked when it is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from checks.base.errors import CannotMeasure
from checks.base.files import write_atomically
from checks.base.validation import Count, Number, validate
from checks.base.view_counts import Counted
from checks.burst.connection_peaks import Peaks
from checks.burst.deadlock_counts import DatabaseCount, InstanceCount
from checks.burst.postgres_log import LogCount
from checks.burst.rate_limit_proof import LimitProof
from checks.visitors.ledger import NoteViews

# Raise the number when a reader of the old one would misunderstand the new one.
FORMAT = "p12 burst 2"
KINDS = {"view", "like", "report"}


class Counts(msgspec.Struct):
    """What the database and every instance had counted at one moment."""

    database: DatabaseCount
    instances: dict[str, InstanceCount]


class Moment(msgspec.Struct):
    wall: Number
    monotonic: Number


class Settings(msgspec.Struct):
    max_connections: Count
    superuser_reserved_connections: Count
    max_client_conn: Count | None = None


class Answered(msgspec.Struct, array_like=True):
    """One request: what came back, how many ms after its volley was due, and what that means."""

    status: Count | None
    milliseconds: Number
    outcome: str
    release: str | None
    kind: str


class Fired(msgspec.Struct):
    """One volley: the try ``salvo`` planned it as, and what became of its requests."""

    salvo: Count
    level: Count
    shape: str
    visitors: str
    in_flight_peak: Count
    write_ms: Number
    hits: list[Answered]

    def __post_init__(self) -> None:
        if self.in_flight_peak > self.level:
            raise ValueError(f"salvo {self.salvo} had more requests in flight than it has")


class Measured(msgspec.Struct):
    """All that a burst measured, whole and about one burst."""

    began: Moment
    ended: Moment
    instances: list[str]
    planned: list[tuple[Count, str, str]]
    volleys: list[Fired]
    limits: LimitProof
    before: Counts
    after: Counts
    peaks: Peaks
    settings: Settings
    log: LogCount
    booked: dict[str, dict[str, NoteViews]]
    counted: dict[str, Counted]
    tallied: dict[str, dict[str, tuple[Count, Count]]]

    def __post_init__(self) -> None:
        fired = {volley.salvo for volley in self.volleys}
        if not self.planned or fired != {*range(1, len(self.planned) + 1)}:
            raise ValueError(f"of {len(self.planned)} planned salvos {len(fired)} are there")
        for volley in self.volleys:
            asked = (volley.level, volley.shape, volley.visitors)
            if asked != self.planned[volley.salvo - 1] or len(volley.hits) != volley.level:
                raise ValueError(f"salvo {volley.salvo} has {len(volley.hits)} hits of {asked}")
        for counts in (self.before, self.after):
            if counts.instances.keys() != set(self.instances):
                raise ValueError(f"other instances are counted than the {len(self.instances)} asked")
        if self.is_mixed and self.tallied.keys() != KINDS - {"view"}:
            raise ValueError(f"only {sorted(self.tallied)} are tallied")
        if "pooler_clients" in self.peaks.most and self.settings.max_client_conn is None:
            raise ValueError("the pooler's clients are counted and its limit is not known")
        if self.booked.keys() != KINDS:
            raise ValueError(f"only {sorted(self.booked)} are booked")
        if any(notes.keys() != self.counted.keys() for notes in self.booked.values()):
            raise ValueError("other notes are counted than were fired at")

    @property
    def hits(self) -> list[Answered]:
        return [hit for volley in self.volleys for hit in volley.hits]

    @property
    def levels(self) -> list[int]:
        return [*dict.fromkeys(volley.level for volley in self.volleys)]

    @property
    def is_mixed(self) -> bool:
        return any(shape == "mix" for _, shape, _ in self.planned)

    def milliseconds(self, level: int) -> list[float]:
        """How long the answers of a level took, in order."""
        of_level = (volley for volley in self.volleys if volley.level == level)
        return sorted(h.milliseconds for volley in of_level for h in volley.hits if h.status is not None)


class Inputs(msgspec.Struct):
    target: str


class Kept(msgspec.Struct):
    format: str
    inputs: Inputs
    measured: dict[str, Any]


def write(path: Path, inputs: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """Keep a burst."""
    kept = {"format": FORMAT, "inputs": inputs, "measured": measured}
    write_atomically(path, msgspec.json.encode(kept).decode() + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a kept burst; raises CannotMeasure, saying where, if it is none, or of another version."""
    try:
        kept = msgspec.json.decode(path.read_bytes())
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
        validate(kept, Kept, "the file")
    except ValueError as error:
        raise CannotMeasure(f"{path} is damaged: {error}. Fire again.") from None
    return dict(kept)


def measured_in(measured: Any) -> Measured:
    """Return the whole measurements of one burst; raises CannotMeasure, naming what is missing or wrong."""
    try:
        return validate(measured, Measured, "measured")
    except ValueError as error:
        raise CannotMeasure(f"What was measured is damaged: {error}. Fire again.") from None
