"""Keep what other hosts proved: verified backups, burst reports, certificates."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rollout.errors import Failed, Refused, Undecided
from rollout.files import read_json, write_bytes, write_json
from rollout.target import certificate
from rollout.target.journal import Entry, Journal
from rollout.target.steering import Steering
from rollout.target.target import FULL_SHARE, TODAY
from rollout.text import count_text, moment, one_line, stamp, zone

PROVISION = "provision"
# So much of an entry is shown in a line.
LINE = 200
OF_A_BACKUP = (
    "id", "summary", "nothing_to_lose", "sha256", "size_bytes", "release",
    "encrypted_to", "copied_to", "pruned", "snapshot", "started_at",
)  # fmt: skip


def record(steering: Steering, kind: str, report: Mapping[str, Any], token: int) -> dict[str, Any]:
    """Journal a backup's manifest, the backups that were pruned, or a check's report.

    :raises Refused: the report is not a passed, complete one of its kind.
    """
    with steering.change(token) as owner:
        if kind == "backup":
            missing = [name for name in ("id", "summary") if not report.get(name)]
            if missing or report.get("verdict") != "passed":
                raise Failed(
                    f"This is no verified backup: {missing or report.get('verdict')}.", "./p12 backup"
                )
            kept = {name: report[name] for name in OF_A_BACKUP if name in report}
            steering.journal.append(owner, "backup.verified", **kept)
            if report.get("way_back"):
                steering.journal.append(owner, "way_back.judged", **report["way_back"])
        elif kind == "pruned":
            if report["pruned"]:
                steering.journal.append(owner, "backups.pruned", ids=report["pruned"])
        else:
            write_json(steering.target.steering / f"{report['check']}.json", dict(report))
            steering.journal.append(
                owner,
                "check.judged",
                check=report["check"],
                verdict=report["verdict"],
                summary=report["summary"],
                release=report.get("inputs", {}).get("release", ""),
            )
    # What did not pass is said by whoever stops for it.
    lines = [report["summary"]] if report.get("verdict", "passed") == "passed" else []
    if report.get("way_back"):
        lines.append(f"{steering.target.name}: {report['way_back']['summary']}")
    said = {"say": lines} if lines else {}
    return {"changed": True, **said}


def maintained(steering: Steering, done: Mapping[str, Any], token: int) -> dict[str, Any]:
    """Journal what was done to the servers between releases, if anything was."""
    if not done["changed"]:
        return {}
    with steering.change(token) as owner:
        settings = done.get("settings", {})
        steering.journal.append(owner, "maintained", summary=done["say"], settings=settings)
    return {"changed": True}


def entries(steering: Steering, verify: bool, since: str = "") -> dict[str, Any]:
    """Return the journal, or with ``verify`` only say that the whole chain holds.

    :raises BrokenJournal: it does not.
    """
    target, found = steering.target.name, steering.journal.entries()
    if verify:
        return {"target": target, "say": f"{target}: {chain_words(found)}"}
    begin = moment(since, time.time())
    shown = [entry for entry in found if entry.at >= begin]
    lines = [f"{target}: {count_text(len(shown), 'entry', 'entries')} of the journal; times are {zone()}"]
    return {
        "target": target,
        "entries": [asdict(entry) for entry in shown],
        "say": "\n".join([*lines, *map(_line, shown)]),
    }


def retained(steering: Steering) -> dict[str, Any]:
    """Say why each release that the journal knows is, or was, kept on the app hosts."""
    state = steering.state()
    keep = steering.target.settings["keep_releases"]
    reasons: dict[str, list[str]] = {}
    for slot, held in state.slots.items():
        if slot != TODAY:
            share = state.shares.get(slot, 0)
            said = f"live in {slot}, {share} %" if share else f"warm in {slot}"
            reasons.setdefault(held.release, []).append(said if held.proven else f"in {slot}, not proven")
    for release in reversed(state.good[-keep - 1 :]):
        said = "last good" if release == state.good[-1] else f"good, p12_keep_releases: {keep}"
        reasons.setdefault(release, []).append(said)
    for release, why in state.quarantined.items():
        reasons.setdefault(release, []).append(f"quarantined: {one_line(why)}")
    return {"reasons": reasons}


def chain_words(found: Sequence[Entry]) -> str:
    """Say of a journal whose chain holds how long it is and where it ends, so that copies can be compared."""
    words = f"{len(found)} entries of the journal, the whole chain holds"
    return f"{words}, to {found[-1].hash[:12]} of {stamp(found[-1].at)} {zone()}" if found else words


def verified_copy(path: Path) -> str:
    """Say that the chain of an exported journal holds, from its first entry to its last.

    :raises BrokenJournal: it does not.
    :raises Refused: nothing is there.
    """
    found = Journal(path).entries()
    if not found:
        raise Refused(f"{path} holds no journal.", f"Export one: ./p12 journal --export {path}")
    return f"{path}: {chain_words(found)}"


def _line(entry: Entry) -> str:
    """An entry in a line, with the texts and numbers among its particulars."""
    said = [f"{name}={value}" for name, value in entry.data.items() if value and isinstance(value, str | int)]
    words = one_line(f"{entry.event:<20} {entry.owner}  {'  '.join(said)}")
    return f"{stamp(entry.at)}  {entry.seq:>5}  {words[:LINE]}{'…' if len(words) > LINE else ''}"


def write_certificate(steering: Steering, release: str, token: int) -> dict[str, Any]:
    """Certify the release that this target serves, from the checks it passed.

    :raises Refused: it is not what serves, or its burst has not passed.
    """
    with steering.change(token) as owner:
        state = steering.state()
        slot = state.serving
        held = state.slots.get(slot) if slot else None
        if held is None or slot is None or held.release != release or state.shares.get(slot) != FULL_SHARE:
            raise Refused(
                f"{release} does not serve all of {steering.target.name}.", f"./p12 deploy --branch {release}"
            )
        report = read_json(steering.target.steering / "burst.json")
        _require_passed(report, release, steering.target.steering / "burst.json")
        now = time.time()
        paper = certificate.issue(
            certificate.private_key(steering.target),
            release=release,
            commit=held.commit,
            sha256=held.sha256,
            flags=dict(steering.flags.of(slot).flags),
            schema=report.get("inputs", {}).get("schema", ""),
            verdicts=[{"check": "burst", "verdict": report["verdict"], "summary": report["summary"]}],
            issued_at=now,
            expires_at=now + 60 * steering.target.settings["certificate_valid_minutes"],
        )
        write_json(steering.target.steering / "certificate.json", paper)
        steering.journal.append(owner, "certificate.written", certificate=paper)
    return {
        "changed": True,
        "certificate": paper,
        "say": f"{steering.target.name}: certificate of {release} written",
    }


def _require_passed(report: Mapping[str, Any] | None, release: str, path: Path) -> None:
    if report is None or report.get("inputs", {}).get("release") != release:
        raise Refused(f"No burst of {release} is on record.", f"./p12 verify --branch {release}")
    if report.get("verdict") != "passed":
        stopped = Undecided if report.get("verdict") == "unknown" else Failed
        raise stopped(report["summary"], f"All of it: {path}. Once it is mended: the same command again")


def certificate_of(steering: Steering, release: str, sha256: str) -> dict[str, Any]:
    """Return the certificate on file if it still holds for this artifact, or the ``reason`` why not."""
    paper, reason = read_json(steering.target.steering / "certificate.json"), "none was written"
    if paper is not None:
        try:
            certificate.check(paper, certificate.trusted_key(steering.target), release, sha256, time.time())
        except Refused as error:
            paper, reason = None, str(error)
    answer = {"release": release, "sha256": sha256, "valid": paper is not None, "certificate": paper}
    return answer if paper else answer | {"reason": reason}


def certificate_key(steering: Steering) -> dict[str, Any]:
    """Return the public key of what this target signs."""
    is_new = not (steering.target.steering / certificate.PRIVATE).exists()
    return {"changed": is_new, "public": certificate.public_key(certificate.private_key(steering.target))}


def trust(steering: Steering, signer: Mapping[str, Any]) -> dict[str, Any]:
    """Accept certificates of this signer from now on, and of nobody else; journaled."""
    path = steering.target.steering / certificate.PUBLIC
    public = str(signer["public"])
    if path.exists() and path.read_text() == public:
        return {"changed": False}
    with steering.change():
        write_bytes(path, public.encode())
        steering.journal.append(PROVISION, "certificate.trusted", public=public)
    return {"changed": True}
