"""Hold what was read from a file against the structure it must have; name the first place that differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shape = Any


@dataclass(frozen=True)
class Each:
    """A mapping with names of its own, whose values all have one shape."""

    of: Shape


@dataclass(frozen=True)
class Either:
    """A value of one shape or another."""

    shapes: tuple[Shape, ...]


NUMBER = Either((int, float))
# JSON has whole numbers of any length; what is added up of numbers up to this one still is a float.
MOST = 1e100


def fit(value: Any, shape: Shape, place: str) -> None:
    """Raise ValueError, naming the place, where a value has not the shape.

    A shape is a type, None, a list of one shape, a tuple of shapes in order, a mapping of required names to
    shapes, ``Each`` or ``Either``. Numbers must be 0 to ``MOST``: nothing here counts backwards, or for ever.
    """
    match shape:
        case Each():
            _of(value, Mapping, place)
            for name, one in value.items():
                fit(one, shape.of, f"{place}.{name}")
        case Either():
            _either(value, shape.shapes, place)
        case dict():
            _named(value, shape, place)
        case list() | tuple():
            _row(value, shape, place)
        case None:
            if value is not None:
                raise ValueError(f"{place} is {value!r}"[:120])
        case _:
            _of(value, shape, place)


def _named(value: Any, shapes: Mapping[str, Shape], place: str) -> None:
    _of(value, Mapping, place)
    for name, shape in shapes.items():
        if name not in value:
            raise ValueError(f"{place} has no {name}")
        fit(value[name], shape, f"{place}.{name}")


def _row(value: Any, shape: Sequence[Shape], place: str) -> None:
    _of(value, list | tuple, place)
    shapes = [shape[0]] * len(value) if isinstance(shape, list) else shape
    if len(value) != len(shapes):
        raise ValueError(f"{place} has {len(value)} values, not {len(shapes)}")
    for number, (one, shape) in enumerate(zip(value, shapes, strict=True)):
        fit(one, shape, f"{place}[{number}]")


def _either(value: Any, shapes: Sequence[Shape], place: str) -> None:
    problems = []
    for shape in shapes:
        try:
            return fit(value, shape, place)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(problems[0])


def _of(value: Any, kind: Any, place: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{place} is {value!r}"[:120])
    if isinstance(value, int | float) and not 0 <= value <= MOST:
        raise ValueError(f"{place} is {value!r}"[:120] + f", not a number from 0 to {MOST:g}")
