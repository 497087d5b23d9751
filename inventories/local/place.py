#!/usr/bin/env python3
"""Say where the local targets live on this machine, as an inventory script.

Started by root, the servers run as the unprivileged user ``p12``, so everything lives where that user can
reach it: ``.p12`` in the checkout, or a directory of its own when the checkout is behind a private directory
or its path has characters that configuration files give a meaning. Sockets get a short directory: a Unix
socket's path has at most 107 bytes.
"""

import hashlib
import json
import os
import pwd
import re
import sys
from pathlib import Path

CHECKOUT = Path(os.environ.get("P12_CHECKOUT") or Path(__file__).resolve().parents[2])


def place(checkout: Path) -> dict[str, object]:
    """Return the inventory variables that depend on this machine and who asks."""
    mark = hashlib.sha256(str(checkout).encode()).hexdigest()[:8]
    root = os.geteuid() == 0
    reachable = not root or all(p.stat().st_mode & 0o001 for p in (checkout, *checkout.parents))
    plain = re.fullmatch(r"[\w./+@-]+", str(checkout), re.ASCII) is not None
    elsewhere = Path("/var/lib/p12" if root else Path.home() / ".local/share/p12") / mark
    return {
        "p12_user": "p12" if root else pwd.getpwuid(os.geteuid()).pw_name,
        "p12_root": f"{checkout}/.p12" if reachable and plain else str(elsewhere),
        # Short, and private: provision gives it this owner and mode 0700, or stops.
        "p12_run": f"/run/p12-{mark}" if root else f"/tmp/p12-{os.geteuid()}-{mark}",  # noqa: S108
        "p12_secrets_directory": f"{checkout}/.p12/secrets",
        "p12_python": next(p for p in ("/usr/bin/python3", sys.executable) if Path(p).exists()),
        "p12_as_root": root,
    }


if __name__ == "__main__":
    if "--host" in sys.argv:
        print("{}")
    else:
        print(json.dumps({"all": {"vars": place(CHECKOUT)}, "_meta": {"hostvars": {}}}))
