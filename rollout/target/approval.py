"""Consent to a certificate: signed with a person's SSH key on their machine, checked on the balancer.

Both sides are OpenSSH's ``ssh-keygen -Y``; the private key never leaves whoever has it, or their agent.
"""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rollout.errors import Refused

# What is signed is for this and nothing else.
NAMESPACE = "p12-approval"
KINDS = ("ssh-ed25519 ", "sk-ssh-ed25519@openssh.com ")


def sign(paper: Mapping[str, Any], key: Path) -> str:
    """Return a person's signature of a certificate, as OpenSSH writes it.

    :raises Refused: the key is not there, or cannot be opened without a question.
    """
    done = _run(["sign", "-n", NAMESPACE, "-f", str(key)], _encoded(paper))
    if done.returncode:
        raise Refused(
            f"{key} signs nothing: {done.stderr.decode(errors='replace').strip()}.",
            "Name another: ./p12 approve --key FILE; one with a passphrase goes into the agent: ssh-add",
        )
    return done.stdout.decode()


def signer(keys: Mapping[str, str], paper: Mapping[str, Any], signature: str) -> str:
    """Return whose of ``keys`` (an Ed25519 public key by name) has signed a certificate.

    :raises Refused: nobody's.
    """
    wrong = [name for name, key in keys.items() if not key.startswith(KINDS) or "\n" in key.strip()]
    if wrong:
        raise Refused(
            f"p12_approvals: {', '.join(wrong)} has no Ed25519 key.", "One line, such as: ssh-ed25519 AAAA…"
        )
    with tempfile.TemporaryDirectory() as private:
        allowed, signed = Path(private, "allowed"), Path(private, "signature")
        signed.write_text(signature)
        for name, key in keys.items():
            allowed.write_text(f'signer namespaces="{NAMESPACE}" {key.strip()}\n')
            words = ["verify", "-n", NAMESPACE, "-f", str(allowed), "-I", "signer", "-s", str(signed)]
            if _run(words, _encoded(paper)).returncode == 0:
                return name
    raise Refused(
        f"The signature is of nobody who may approve: {', '.join(sorted(keys)) or 'p12_approvals is empty'}.",
        "Sign with the key that the inventory names: ./p12 approve --key FILE",
    )


def _run(words: Sequence[str], told: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", "-Y", *words], input=told, capture_output=True, check=False)
    except FileNotFoundError:
        raise Refused("ssh-keygen is not here.", "apt install openssh-client") from None


def _encoded(paper: Mapping[str, Any]) -> bytes:
    return json.dumps(paper, sort_keys=True, separators=(",", ":")).encode()
