"""A backup by the host's verb, as the playbook starts it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.rollout.database.kept import KeptSite
from tests.running import CHECKOUT, wait_for

BACKUP = {"copy": "", "ssh_config": "", "lock_seconds": 30, "age_recipients": [], "keep": {}}


@pytest.fixture
def root(site: KeptSite) -> Iterator[Path]:
    """The kit's directory of a target whose backups are kept apart from those of other tests."""
    root = site.home / "stopped"
    (root / "production" / "backups").mkdir(parents=True)
    settings = {**site.target.settings, "backup": BACKUP}
    (root / "production" / "target.json").write_text(json.dumps(settings))
    shutil.copy(site.target.directory / "secrets.json", root / "production")
    if os.geteuid() == 0:
        for path in (root / "production", *(root / "production").iterdir()):
            shutil.chown(path, "nobody", "nogroup")
    site.cluster.run("CREATE ROLE p12_monitor LOGIN")
    yield root
    site.cluster.run("DROP ROLE p12_monitor")
    shutil.rmtree(root)


def test_a_backup_that_is_stopped_leaves_no_cluster_with_the_services_rows(root: Path) -> None:
    kept = root / "production" / "backups"
    words = ["-m", "rollout", "host", "production", "backup", "--release=0123456789ab"]
    running = subprocess.Popen(
        [sys.executable, "-P", *words],
        env={**os.environ, "P12_ROOT": str(root), "PYTHONPATH": str(CHECKOUT)},
        cwd="/",
        stdout=subprocess.DEVNULL,
    )
    scratch = wait_for(lambda: _scratch_server(kept), "a scratch cluster")

    running.send_signal(signal.SIGTERM)

    assert running.wait(30) == 128 + signal.SIGTERM
    assert not scratch.is_running()
    assert {path.name for path in kept.iterdir()} <= {".lock"}


def _scratch_server(kept: Path) -> psutil.Process | None:
    for pid_file in kept.glob(".scratch-*/data/postmaster.pid"):
        pid = int((pid_file.read_text().split() or ["0"])[0])
        # While initdb is at work the number is negative: no server yet.
        return psutil.Process(pid) if pid > 0 else None
    return None
