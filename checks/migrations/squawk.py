"""Squawk's opinion of a migration: a linter that knows which statements lock or break whom.

Source: https://squawkhq.com/docs/rules.
"""

import json
import subprocess
import sys
from pathlib import Path

from checks.base.errors import CannotMeasure
from checks.migrations.rules import Refusal

# Taste, what the runner of the migrations sees to, and what looks wrong only where each is rendered alone.
EXCLUDED = (
    *("prefer-bigint-over-int", "prefer-bigint-over-smallint", "prefer-identity", "prefer-repack"),
    *("prefer-robust-stmts", "prefer-text-field", "prefer-timestamp-tz", "require-timeout-settings"),
    *("require-lock-timeout", "require-statement-timeout", "ban-uncommitted-transaction"),
    *("transaction-nesting", "require-concurrent-index-creation", "require-concurrent-index-deletion"),
)
# Off by default: what may break whoever uses the schema as it was.
INCLUDED = (
    *("ban-new-write-restriction", "ban-revoke", "ban-set-default", "ban-disable-trigger"),
    *("ban-drop-trigger", "ban-alter-row-level-security", "ban-create-policy", "ban-drop-default"),
    *("ban-alter-policy-condition", "ban-alter-function-options", "ban-set-schema", "renaming-object"),
    *("ban-drop-function", "ban-drop-view"),
)
SECONDS = 30


def refusals(sql: str, file: str, major: int = 15) -> list[Refusal]:
    """Return what squawk says of one migration's SQL for that major version of Postgres.

    :raises CannotMeasure: squawk is not installed, or says nothing that can be read.
    """
    program = Path(sys.executable).with_name("squawk")
    options = [f"--exclude={','.join(EXCLUDED)}", f"--include={','.join(INCLUDED)}"]
    try:
        done = subprocess.run(
            [program, "--reporter=json", f"--pg-version={major}.0", f"--stdin-filepath={file}", *options],
            input=sql,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={"LC_ALL": "C.UTF-8"},
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise CannotMeasure(f"squawk cannot judge {file}: {error}. Make .venv anew: rm -r .venv") from None
    lines = sql.splitlines()
    return [
        Refusal(
            " ".join(lines[entry["line"]].split())[:90] if entry["line"] < len(lines) else file,
            f"{entry['message'].rstrip('.')} ({entry['rule_name']})",
            (entry["help"] or "expand, release, and only then contract").rstrip("."),
        )
        for entry in found
    ]
