"""The environment of what the kit runs: made from an allow list, never whatever somebody has set."""

import os
from collections.abc import Iterable


def environment(keep: Iterable[str] = (), **more: str) -> dict[str, str]:
    """Return PATH, a plain UTF-8 locale, the variables to ``keep`` where they are set, and ``more``."""
    kept = {name: os.environ[name] for name in ("PATH", *keep) if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **kept, **more}
