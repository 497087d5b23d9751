"""Wait for what must become true, with one deadline for all tries."""

import time
from collections.abc import Iterator


def attempts(seconds: float, pause: float = 0.05) -> Iterator[None]:
    """Yield at once, then again after each ``pause`` until ``seconds`` are over, so once at least.

    What comes after the loop is what a deadline means::

        for _ in attempts(10):
            if is_up():
                return
        raise Refused("It is not up after 10 s.")
    """
    deadline = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        time.sleep(pause)
