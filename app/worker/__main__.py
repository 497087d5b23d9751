"""Entry point of a slot's worker: ``python -m app.worker``."""

import sys

from app.worker.loop import main

if __name__ == "__main__":
    sys.exit(main())
