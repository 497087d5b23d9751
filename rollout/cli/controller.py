"""What playbooks ask on the engineer's machine: which commit, which artifact, which kit, whose session."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rollout.build import artifact, cache, kit
from rollout.build.commit import Commit, committed_at, names_of, resolve
from rollout.build.tarball import Platform
from rollout.cli import session
from rollout.errors import Refused, RolloutError
from rollout.target import approval

CHECKOUT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m rollout.cli.controller")
    parser.add_argument("question", choices=("resolve", "build", "kit", "room", "session", "approve"))
    parser.add_argument("--branch", default="")
    parser.add_argument("--fetch", action="store_true", help="take the branch from origin")
    parser.add_argument("--cache", type=Path, default=CHECKOUT / ".p12" / "cache")
    parser.add_argument("--keep", type=int, default=0, help="so many of each kind built; 0 is all")
    parser.add_argument("--python", default="", help="the hosts' Python, such as 3.11; empty is ours")
    parser.add_argument("--machine", default="x86_64")
    parser.add_argument("--seen", default="")
    parser.add_argument("--name-only", action="store_true")
    parser.add_argument("--key", default="", help="of whoever approves")
    options = parser.parse_args(arguments)
    try:
        answer = {"changed": False, **_answer(options)}
    except RolloutError as error:
        print(json.dumps({"error": str(error), "hint": error.hint, "status": error.status}))
        return 1
    print(json.dumps(answer))
    return 0


def _answer(options: argparse.Namespace) -> dict[str, Any]:
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    platform = Platform(options.python or ours, options.machine)
    match options.question:
        case "resolve":
            found = resolve(CHECKOUT, options.branch, options.fetch)
            said = f"release {found.release} from {found.named}"
            return {
                "document": {
                    **{"release": found.release, "commit": found.commit, "branch": found.named},
                    "branches": names_of(CHECKOUT, found.commit),
                    "committed_at": committed_at(CHECKOUT, found.commit),
                },
                "say": f"{said} ({found.warning})" if found.warning else said,
            }
        case "build":
            document = json.load(sys.stdin)
            commit = Commit(document["commit"], document["branch"])
            built, changed = artifact.build(CHECKOUT, options.cache, commit, platform)
            cache.prune(options.cache, options.keep)
            said = "built" if changed else "already built"
            return {
                "document": document | {"sha256": built.sha256, "artifact": built.path},
                "changed": changed,
                "say": f"artifact {built.release}-{built.sha256[:12]} {said}, {built.size / 1e6:.1f} MB",
            }
        case "kit":
            if options.name_only:
                return {"id": kit.kit_id(CHECKOUT, platform)}
            path, name, changed = kit.build(CHECKOUT, options.cache, platform)
            cache.prune(options.cache, options.keep)
            return {"path": str(path), "id": name, "python": platform.python, "changed": changed}
        case "approve":
            shown = json.load(sys.stdin)
            if not shown["certificate"]:
                said = f"Staging has no certificate of {shown['release']}: {shown['reason']}."
                raise Refused(said, f"./p12 verify --branch {shown['release']}")
            return {"signature": approval.sign(shown["certificate"], Path(options.key).expanduser())}
        case "room":
            return {"say": cache.show(options.cache, options.keep)}
    return {
        "owner": session.owner(),
        "session": session.session(),
        "dead": options.seen if options.seen and session.is_dead(options.seen) else "-",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
