"""End a pause of pgbouncer when whoever began it is gone or too slow; a program of its own.

Reads where the console is and how long a pause may last from the first line of its input, says ``ready``,
and waits for ``done``. The end of its input without that, or the deadline, means RESUME.
"""

import contextlib
import json
import select
import sys

from rollout.database.pgbouncer import Pooler
from rollout.errors import RolloutError
from rollout.waiting import attempts

RETRY_SECONDS = 0.1
TRYING_SECONDS = 60.0


def main() -> int:
    asked = json.loads(sys.stdin.readline())
    print("ready", flush=True)
    finished, _, _ = select.select([sys.stdin], [], [], asked["seconds"])
    if finished and sys.stdin.readline() == "done\n":
        return 0
    pooler = Pooler(asked["console"])
    return 0 if any(_is_resumed(pooler) for _ in attempts(TRYING_SECONDS, RETRY_SECONDS)) else 1


def _is_resumed(pooler: Pooler) -> bool:
    """Let clients go on, unless the console is away."""
    with contextlib.suppress(RolloutError, TimeoutError):
        pooler.resume()
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
