"""What stands beside an artifact: an SBOM and a statement of what it was built from.

Sources: CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json), in-toto Statement v1 with SLSA provenance v1
(https://slsa.dev/spec/v1.0/provenance). Neither holds a time or a name of whoever built it, so both are as
reproducible as the artifact.
"""

import email.parser
import hashlib
import tarfile
import uuid
from pathlib import Path
from typing import Any

from rollout.build.commit import Commit
from rollout.build.tarball import Platform
from rollout.files import content_sha256, write_json

KIND = "urn:paste12-rollout-kit"
SBOM, PROVENANCE = ".cdx.json", ".intoto.json"


def attest(artifact: Path, commit: Commit, digest: str, platform: Platform, packed: Path) -> None:
    """Write both documents beside the artifact, by its name; ``digest`` is of its content."""
    stem = artifact.name.removesuffix(".tar.gz")
    write_json(artifact.with_name(stem + SBOM), sbom(commit, digest, packed), 0o644)
    write_json(artifact.with_name(stem + PROVENANCE), provenance(commit, digest, platform, packed), 0o644)


def sbom(commit: Commit, digest: str, packed: Path) -> dict[str, Any]:
    """Return the CycloneDX document: each package that the artifact brings, from its own metadata."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{KIND}:{digest}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": "paste12",
                "version": commit.release,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        },
        "components": [_component(*package) for package in sorted(_packages(packed))],
    }


def provenance(commit: Commit, digest: str, platform: Platform, packed: Path) -> dict[str, Any]:
    """Return the in-toto statement: which commit and which locked dependencies went into the artifact."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"{commit.release}.tar", "digest": {"sha256": digest}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{KIND}:artifact:v1",
                "externalParameters": {
                    "commit": commit.commit,
                    "python": platform.python,
                    "machine": platform.machine,
                },
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": commit.commit}},
                    {"name": "dependencies.tar", "digest": {"sha256": content_sha256(packed)}},
                ],
            },
            "runDetails": {"builder": {"id": f"{KIND}:build"}},
        },
    }


def _packages(packed: Path) -> list[tuple[str, str, str]]:
    """Name, version and licence of each distribution in a tarball of dependencies."""
    found = []
    with tarfile.open(packed, ignore_zeros=True) as archive:
        for member in archive:
            if member.name.endswith(".dist-info/METADATA"):
                content = archive.extractfile(member)
                said = email.parser.BytesParser().parsebytes(content.read() if content else b"")
                licence = said.get("License-Expression") or said.get("License") or ""
                found.append((said["Name"], said["Version"], licence.partition("\n")[0].strip()))
    return found


def _component(name: str, version: str, licence: str) -> dict[str, Any]:
    normal = name.lower().replace("_", "-").replace(".", "-")
    component = {
        "type": "library",
        "bom-ref": hashlib.sha256(f"{normal}=={version}".encode()).hexdigest()[:16],
        "name": normal,
        "version": version,
        "purl": f"pkg:pypi/{normal}@{version}",
    }
    return component | ({"licenses": [{"license": {"name": licence}}]} if licence else {})
