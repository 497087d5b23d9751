"""A release of the service, started on a copy of the database: one instance, and its worker."""

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from checks.base.errors import CannotMeasure
from checks.visitors.limit_pass import HEADER, Pass

START_SECONDS = 30.0
END_SECONDS = 10.0
TARGET, SLOT = "dev", "blue"
LAST_WORDS = 400


class NotServed(Exception):
    """The release did not do what its contract says; the text says what it did."""


@dataclass(frozen=True)
class Release:
    """A release as it is unpacked: ``home`` holds ``lib``; ``python`` runs it."""

    name: str
    home: Path
    python: str

    def environment(self, url: str, **more: str) -> dict[str, str]:
        """What its programs are started with, and nothing of ours."""
        plain = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONPATH": "lib", "PYTHONDONTWRITEBYTECODE": "1"}
        return {**plain, "DATABASE_URL": url, **more}

    def migrate(self, url: str) -> str:
        """Bring the copy to this release's schema; return the revision it has then.

        :raises NotServed: the migration stopped, and says why.
        """
        done = subprocess.run(
            [self.python, "-P", "-s", "-m", "app.migrate", "upgrade"],
            cwd=self.home,
            env=self.environment(url),
            capture_output=True,
            text=True,
            check=False,
        )
        with contextlib.suppress(ValueError):
            answer = json.loads(done.stdout)
            if not done.returncode:
                return str(answer["after"])
            raise NotServed(f"the migration of {self.name} stopped: {answer.get('error')}")
        raise NotServed(f"the migration of {self.name} stopped: {done.stderr.strip()[-LAST_WORDS:]}")


@dataclass
class Instance:
    """One instance that serves on loopback, past every rate limit."""

    release: Release
    port: int
    flags_secret: str = field(repr=False)
    rehearsal: Pass = field(repr=False)
    generation: int = 0

    def ask(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        who: str = "",
    ) -> tuple[int, Any]:
        """Send a request as a visitor; return the status and the JSON that came, None where none did."""
        headers = {HEADER: self.rehearsal.header(time.time())} | ({"X-Author-Fp": who} if who else {})
        body = None
        if fields is not None:
            body, headers["Content-Type"] = json.dumps(fields), "application/json"
        elif form is not None:
            body, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
        status, content = self._send(method, path, body, headers)
        try:
            return status, json.loads(content)
        except ValueError:
            return status, None

    def set_flags(self, wanted: Mapping[str, str]) -> None:
        """Put flags into force as the balancer does; one that the release does not know is left out.

        :raises NotServed: they were not taken.
        """
        known = self.ask("GET", "/internal/flags")[1]["known"]
        self.generation += 1
        document = {
            "target": TARGET,
            "slot": SLOT,
            "generation": self.generation,
            "flags": {name: value for name, value in wanted.items() if name in known},
        }
        body = json.dumps(document, sort_keys=True, separators=(",", ":"))
        signed = hmac.new(self.flags_secret.encode(), body.encode(), hashlib.sha256).hexdigest()
        headers = {"X-P12-Signature": f"sha256={signed}", "Content-Type": "application/json"}
        status, content = self._send("PUT", "/internal/flags", body, headers)
        if status != 200:
            raise NotServed(f"flags were answered {status}: {content[:LAST_WORDS]!r}")

    def _send(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotServed(f"{method} {path} was not answered: {error}") from error
        finally:
            connection.close()


@contextlib.contextmanager
def started(release: Release, url: str, place: Path) -> Iterator[Instance]:
    """Start an instance and a worker of a release on the database at ``url``; end both with the block.

    Their flags and logs are in ``place``, which is private.

    :raises NotServed: the instance does not become ready; says why.
    """
    home = place / f"{release.name}-{secrets.token_hex(4)}"
    home.mkdir(mode=0o700)
    port, flags_secret, rehearsal_secret = _free_port(), secrets.token_hex(), secrets.token_hex()
    environment = release.environment(
        url,
        P12_TARGET=TARGET,
        P12_SLOT=SLOT,
        P12_BIND=f"127.0.0.1:{port}",
        P12_TRUSTED_HOPS="0",
        P12_FLAGS_FILE=str(home / "flags.json"),
        P12_FLAGS_SECRET=flags_secret,
        P12_REHEARSAL_SECRET=rehearsal_secret,
        P12_THREADS="2",
        P12_DB_POOL_SIZE="2",
        P12_DB_MAX_OVERFLOW="1",
        P12_WORKER_POLL_SECONDS="0.05",
        HOME=str(home),
    )
    with contextlib.ExitStack() as stack:
        words = ("gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app")
        server = stack.enter_context(_running(release, words, environment, home / "instance.log"))
        stack.enter_context(_running(release, ("app.worker",), environment, home / "worker.log"))
        made = Instance(release, port, flags_secret, Pass(rehearsal_secret, TARGET))
        _await_ready(made, server, home / "instance.log")
        yield made


def _await_ready(instance: Instance, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    said = "nothing"
    while time.monotonic() < deadline and server.poll() is None:
        try:
            status, answer = instance.ask("GET", "/internal/ready")
        except NotServed as error:
            said = str(error)
        else:
            if status == 200:
                return
            said = f"{status} {answer}"
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip()[-LAST_WORDS:]
    raise NotServed(f"it did not become ready: {said}. Its log ends: {last}")


@contextlib.contextmanager
def _running(
    release: Release, module: tuple[str, ...], environment: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                [release.python, "-P", "-s", "-m", *module],
                cwd=release.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        except OSError as error:
            raise CannotMeasure(f"{release.name} cannot be started: {error}.") from error
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
