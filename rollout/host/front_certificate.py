"""See that a front door's certificate could serve, before anything is changed for it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rollout.errors import Refused
from rollout.host.owner import become_owner
from rollout.target import pem


def main(arguments: Sequence[str]) -> int:
    """Check a file as the owner of a directory, or standard input; what is wrong is said as JSON."""
    home, source = arguments
    become_owner(Path(home))
    try:
        if source == "-":
            pem.checked(sys.stdin.buffer.read(), "p12_front_certificate")
        else:
            pem.read(Path(source))
    except Refused as error:
        print(json.dumps({"error": str(error), "hint": error.hint}))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
