"""Hold what was read from a file against the type it must have; name the first place that differs."""

import re
from typing import Annotated, Any, TypeVar

import msgspec

Kind = TypeVar("Kind")
# JSON has whole numbers of any length; a float holds each of these, and what is added up of them.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Number = Annotated[float, msgspec.Meta(ge=0, le=1e100)]
STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
MISSING = re.compile(r"Object missing required field `(\w+)`")


def validate(value: Any, kind: type[Kind], place: str) -> Kind:
    """Return a value as its type; raises ValueError with the place, what is there and what is accepted."""
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        wrong, _, path = str(error).partition(" - at `$")
        where, missing = f"{place}{path.rstrip('`')}", MISSING.match(wrong)
        if missing:
            raise ValueError(f"{where} has no {missing[1]}") from None
        if "[...]" in path or not wrong.startswith(("Expected", "Number")):
            raise ValueError(f"{where}: {wrong}") from None
        for name, number in STEP.findall(path):
            value = value[name or int(number)]
        raise ValueError(f"{where} is {value!r:.100}: {wrong}") from None
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"{place}: {error}") from None
