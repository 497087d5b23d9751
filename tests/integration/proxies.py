"""Two real proxies in front of a front door, each adding whom it serves."""

import socket
from contextlib import ExitStack
from pathlib import Path

from rollout.host.installed_servers import Servers
from tests.running import free_port, running, wait_for

OUTER, INNER = "127.0.0.2", "127.0.0.3"
PROXY = """
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 10s
  option forwardfor
frontend it
  bind 127.0.0.1:{port}
  default_backend next
backend next
  server next 127.0.0.1:{to} source {address}
"""


def proxied(stack: ExitStack, servers: Servers, home: Path, to: int) -> int:
    """Start the proxies, for as long as the stack stands; return the outer one's port."""
    for name, address in (("inner", INNER), ("outer", OUTER)):
        place, port = home / name, free_port()
        place.mkdir(parents=True)
        (place / "proxy.cfg").write_text(PROXY.format(port=port, to=to, address=address))
        stack.enter_context(running([servers.path("haproxy"), "-db", "-f", place / "proxy.cfg"], place))
        wait_for(lambda at=port: socket.create_connection(("127.0.0.1", at), 1).close() is None, name)
        to = port
    return to
