"""A machine whose processes a real supervisord keeps, configured by the roles' own templates."""

import json
import sys
from pathlib import Path
from typing import Any

import jinja2

from rollout.host import supervisord
from rollout.target.target import Target
from tests.running import CHECKOUT, free_port

ROLES = CHECKOUT / "playbooks" / "roles"
LISTEN = """
import signal, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.signal(signal.SIGHUP, lambda *_: print("read again", flush=True))
print("listening", flush=True)
while True:
    signal.pause()
"""


class Machine:
    """A local site's root with supervisord's configuration; ``describe`` is what the process role does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("supervisor/programs", "run", "staging/log", "staging/steer"):
            (root / name).mkdir(parents=True)
        (root / "supervisor" / "socket").symlink_to(root / "run" / "supervisor.sock")
        self.variables: dict[str, Any] = {
            "p12_root": root,
            "p12_run": root / "run",
            "p12_target": "staging",
            "p12_process_environment": "",
            "p12_process_directory": root,
            "p12_process_priority": 500,
            "p12_process_stop_signal": "TERM",
            "p12_process_stop_seconds": 5,
        }
        configuration = self.render("supervisor", "supervisord.conf")
        (root / "supervisor" / "supervisord.conf").write_text(configuration)
        self.port = free_port()
        settings = {
            "ports": {"haproxy": self.port, "redis": free_port()},
            "instances": [
                {"name": f"{slot}-1.local", "slot": slot, "address": "127.0.0.1", "port": free_port()}
                for slot in ("blue", "green")
            ],
            "process_manager": "supervisord",
            "lock_seconds": 900,
            "guard_hung_seconds": 1,
            **{"haproxy_socket": "none", "haproxy_state": "none", "haproxy_backend": "paste12"},
        }
        (root / "staging" / "target.json").write_text(json.dumps(settings))
        self.target = Target.load("staging", root)

    def render(self, role: str, name: str, **more: Any) -> str:
        text = (ROLES / role / "templates" / f"{name}.j2").read_text()
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False)  # noqa: S701
        return environment.from_string(text).render(self.variables | more)

    def describe(self, name: str, program: str, *words: object) -> None:
        script = self.root / f"{name}.py"
        script.write_text(program)
        self.describe_command(name, sys.executable, script, *words)

    def describe_command(self, name: str, *words: object) -> None:
        command = " ".join(map(str, words))
        text = self.render("process", "program.ini", p12_processes=[{"name": name, "command": command}])
        # One try: how long supervisord goes on trying is its own affair.
        text = text.replace("startretries=3", "startretries=0")
        (self.root / "supervisor" / "programs" / f"p12-staging-{name}.ini").write_text(text)

    def ensure(self, *names: str) -> dict[str, Any]:
        return supervisord.ensure(self.root, self.target, names)

    def log(self, name: str) -> str:
        return (self.root / "staging" / "log" / f"{name}.log").read_text()
