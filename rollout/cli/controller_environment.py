"""What Ansible is started with: nothing of the engineer's that would make it do something else."""

import os
import pwd
from pathlib import Path

from rollout.build.commit import FOR_FETCHING
from rollout.build.tarball import FOR_UV
from rollout.environment import environment

CHECKOUT = Path(__file__).resolve().parents[2]
# Who asks, how hosts and package registries are reached, how the vault is opened, and what is seen.
KEPT = (
    *("USER", "LOGNAME", "SUDO_USER", "TZ", "TERM", "COLUMNS", "NO_COLOR"),
    *("SSH_AGENT_PID", "KRB5CCNAME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "GPG_TTY"),
    *("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST"),
    *FOR_FETCHING,
    *FOR_UV,
)


def for_ansible() -> dict[str, str]:
    """Return the environment of a program of Ansible's."""
    return environment(
        KEPT,
        HOME=str(_home()),
        PYTHONPATH=str(CHECKOUT),
        ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg"),
        P12_CHECKOUT=str(CHECKOUT),
    )


def _home() -> Path:
    """Where Ansible and SSH may keep their own: the home that is named, else the one there is."""
    homes = (Path(os.environ.get("HOME") or "/nonexistent"), Path(pwd.getpwuid(os.geteuid()).pw_dir))
    usable = (home for home in homes if home.is_dir() and os.access(home, os.W_OK | os.X_OK))
    return next(usable, CHECKOUT / ".p12" / "home")
