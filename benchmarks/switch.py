"""How fast is back? Times ``./p12 rollback`` and ``./p12 flags off`` with visitors on, beside an empty play.

Needs the local site with a second release on staging: run ``./p12 release`` for two commits first. It works
on staging, where a release may go forward again without windows, and starts visitors of its own there.

    .venv/bin/python -m benchmarks.switch [--rounds 20] [--json FILE]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import Row, show

CHECKOUT = Path(__file__).resolve().parents[1]
LIMIT_FROM_ENTER, LIMIT_ON_BALANCER = 2.5, 0.5
FLAG = "P12_ENABLE_VIEW_QUEUE"
EMPTY_PLAY = """- name: Nothing
  hosts: staging-local
  tasks:
    - name: Do nothing
      ansible.builtin.command: {argv: ["true"]}
      changed_when: false
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=25, help="visitors' requests per second")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    hosts = json.loads(run(sys.executable, "-P", "-m", "ansible", "inventory", "--list"))["_meta"]["hostvars"]
    site = Staging(Path(hosts["staging-local"]["p12_root"]))
    rows = measure(site, options.rounds, options.rate)
    print(show(rows))
    if options.json:
        options.json.write_text(json.dumps([row.to_dict() for row in rows], indent=2) + "\n")
    return 0


class Staging:
    """The staging target of the local site, moved by hand between its two newest releases."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.release = ""
        state = self.ask("status")
        self.release = state["rollout"]["release"]
        if not state["rollout"]["from_release"]:
            raise SystemExit("staging has one release only. Change something, commit, and: ./p12 release")

    def ask(self, *words: str) -> dict[str, Any]:
        told = json.dumps(
            {"release": self.release, "owner": "benchmark", "session": "benchmark", "dead": "-"}
        )
        answer: dict[str, Any] = json.loads(run(str(self.root / "bin" / "p12"), "staging", *words, told=told))
        return answer

    def forward(self) -> None:
        """Put all traffic on the newest release again, as its deploy did; nothing where it is there still."""
        if self.ask("status")["rollout"]["ended"] != "rolled back":
            return
        token = self.ask("lock", "take")["token"]
        self.ask("begin", f"--token={token}", "--why=a benchmark")
        self.ask("shift", f"--token={token}")
        self.ask("finish", f"--token={token}")
        self.ask("lock", "drop", f"--token={token}")

    def visitors(self, rate: int, state: Path) -> subprocess.Popen[bytes]:
        secret = json.loads((self.root / "staging" / "secrets.json").read_text())["rehearsal"]
        front = self.ask("status")["address"]
        words = ["-m", "checks", "visitors", f"--base-url={front}", "--target=staging", f"--rate={rate}"]
        return subprocess.Popen(
            [sys.executable, "-P", *words, f"--state={state}"],
            env=environment(P12_REHEARSAL_SECRET=secret),
            stdout=subprocess.DEVNULL,
        )


def measure(site: Staging, rounds: int, rate: int) -> list[Row]:
    """Run all commands in turn, round by round, so that a noisy moment touches each of them alike."""
    play, ledger = CHECKOUT / ".p12" / "empty.yml", CHECKOUT / ".p12" / "benchmark-visitors.json"
    play.write_text(EMPTY_PLAY)
    ledger.unlink(missing_ok=True)
    seconds: dict[str, list[float]] = {
        name: [] for name in ("empty", "rollback", "flags", "rollback-host", "flags-host")
    }
    visitors = site.visitors(rate, ledger)
    try:
        for _ in range(rounds):
            seconds["empty"].append(timed(lambda: run(*ANSIBLE, str(play))))
            site.forward()
            seconds["rollback"].append(timed(lambda: p12("rollback", "--target", "staging")))
            site.forward()
            seconds["rollback-host"].append(timed(lambda: site.ask("rollback")))
            site.ask("flags", "set", f"{FLAG}=1")
            seconds["flags"].append(timed(lambda: p12("flags", "off", FLAG, "--target", "staging")))
            site.ask("flags", "set", f"{FLAG}=1")
            seconds["flags-host"].append(timed(lambda: site.ask("flags", "off", FLAG)))
        site.forward()
    finally:
        visitors.send_signal(signal.SIGTERM)
        visitors.wait(30)
    seen = json.loads(ledger.read_text())
    return [
        Row("an empty play", "s", seconds["empty"]),
        Row("`./p12 rollback`, from Enter", "s", seconds["rollback"], LIMIT_FROM_ENTER),
        Row("`./p12 flags off`, from Enter", "s", seconds["flags"], LIMIT_FROM_ENTER),
        Row("rollback, moved and proven on the balancer", "s", seconds["rollback-host"], LIMIT_ON_BALANCER),
        Row("flags off, moved and proven on the balancer", "s", seconds["flags-host"], LIMIT_ON_BALANCER),
        Row("visitors' requests meanwhile", "", [seen["requests"]]),
        Row("of them failed", "", [seen["failed"]], 0),
    ]


ANSIBLE = (sys.executable, "-P", "-m", "ansible", "playbook")


def timed(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def p12(*words: str) -> str:
    return run(str(CHECKOUT / "p12"), *words)


def run(*command: str, told: str = "") -> str:
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment(), input=told, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def environment(**more: str) -> dict[str, str]:
    return {
        **os.environ,
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "PYTHONPATH": str(CHECKOUT),
        **more,
    }


if __name__ == "__main__":
    sys.exit(main())
