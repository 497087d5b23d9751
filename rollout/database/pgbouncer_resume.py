"""End a pause of pgbouncer when whoever began it is gone or too slow; a program of its own.

Reads where the console is and how long a pause may last from the first line of its input, says ``ready``,
and waits for ``done``. The end of its input without that, or the deadline, means RESUME.
"""

import json
import select
import sys
import time

from rollout.database.pgbouncer import Pooler
from rollout.errors import RolloutError

RETRY_SECONDS = 0.1
TRYING_SECONDS = 60.0


def main() -> int:
    asked = json.loads(sys.stdin.readline())
    print("ready", flush=True)
    finished, _, _ = select.select([sys.stdin], [], [], asked["seconds"])
    if finished and sys.stdin.readline() == "done\n":
        return 0
    return 0 if resume(Pooler(asked["console"])) else 1


def resume(pooler: Pooler) -> bool:
    """Let clients go on; tries again while the console is away."""
    deadline = time.monotonic() + TRYING_SECONDS
    while time.monotonic() < deadline:
        try:
            pooler.resume()
            return True
        except (RolloutError, TimeoutError):
            time.sleep(RETRY_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(main())
