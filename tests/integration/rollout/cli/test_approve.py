"""``./p12 approve`` through its real playbook: signed on this machine, journaled on the balancer."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.integration.rollout.steered import NEW, Steered, document_of
from tests.running import CHECKOUT

# Staging's kit shows the certificate that is beside it; production's is the real one.
KIT = """#!/bin/sh
if [ "$1" = staging ]; then exec cat {root}/shown.json; fi
exec {real} "$@"
"""
# What approve.yml does once the artifact is built.
APPROVE = CHECKOUT / "playbooks" / "approve.yml"


def test_a_certificate_is_signed_here_and_journaled_there(
    live: Steered, site: Callable[..., list[str]], tmp_path: Path
) -> None:
    key = tmp_path / "id"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bob", "-f", str(key)]
    subprocess.run(words, check=True, capture_output=True)
    live.settings["approvals"] = {"needed": 1, "keys": {"bob": key.with_suffix(".pub").read_text()}}
    live.take()
    live.admit(NEW)
    paper = {k: v for k, v in (live.steering.state().certificate or {}).items() if k != "at"}
    (live.home / "shown.json").write_text(json.dumps({"release": NEW, "certificate": paper}))
    inventory = Path(site()[-1])
    kit = live.home / "bin" / "p12"
    real = kit.rename(kit.with_name("real"))
    kit.write_text(KIT.format(root=live.home, real=real))
    kit.chmod(0o755)
    groups = json.loads(inventory.read_text())
    host = groups["all"]["children"]["production"]["hosts"]["balancer-1"]
    groups["all"]["children"]["staging"] = {"hosts": {"balancer-2": {**host, "p12_target": "staging"}}}
    groups["all"]["children"]["balancer"]["hosts"]["balancer-2"] = None
    inventory.write_text(json.dumps(groups))
    document = json.dumps({"p12_document": document_of(NEW), "key": str(key)})
    words = ["-i", str(inventory), str(APPROVE), "-e", document, "--start-at-task", "Bring the certificate"]

    done = subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", *words],
        env={**live.environment(), "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "USER": "bob"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"production: bob approves {NEW}" in done.stdout
    entry = live.steering.journal.entries()[-1]
    assert (entry.event, entry.data["by"]) == ("release.approved", "bob")
    assert entry.owner == f"bob@{socket.gethostname()}"
