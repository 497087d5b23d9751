"""Programs run to their end, alone or each fed by the one before; secrets reach them on standard input."""

import contextlib
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from checks.base.errors import CannotMeasure

# What a program says when the one behind it in a pipe has gone: not the cause.
CONSEQUENCE = re.compile(r"broken pipe", re.IGNORECASE)
CHUNK = 2**20


@dataclass(frozen=True)
class Program:
    """A program with its arguments; ``words`` never hold a secret, ``told`` may."""

    words: Sequence[str]
    variables: Mapping[str, str] = field(repr=False)
    told: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        return Path(self.words[0]).name


@dataclass(frozen=True)
class _Running:
    program: Program
    process: "subprocess.Popen[bytes]"
    stderr: IO[bytes]

    def said(self) -> str:
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace")

    def is_consequence(self) -> bool:
        return self.process.returncode == -signal.SIGPIPE or bool(CONSEQUENCE.search(self.said()))


def run(programs: Sequence[Program], seconds: float) -> str:
    """Run programs, each reading what the one before writes; return what the last wrote.

    All must succeed, and each output is read to its end. Raises CannotMeasure with what the one that failed
    first said, or when it takes more than ``seconds``; none of them is left running.
    """
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as ending:
        running: list[_Running] = []
        for program in programs:
            running.append(_start(program, running[-1].process.stdout if running else None, ending))
        last = running[-1].process
        try:
            output, _ = last.communicate(timeout=seconds)
            for earlier in reversed(running[:-1]):
                _let_end(earlier.process, last.returncode == 0)
                earlier.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            name = running[-1].program.name
            raise CannotMeasure(f"{name} took more than {seconds:g} s and was stopped.") from None
        failed = [one for one in running if one.process.returncode]
        if failed:
            first = next((one for one in failed if not one.is_consequence()), failed[0])
            raise CannotMeasure(
                f"{first.program.name} failed: {exit_text(first.process.returncode, first.said())}"
            )
    return str(output.decode(errors="replace"))


def _start(program: Program, fed_by: IO[bytes] | None, ending: contextlib.ExitStack) -> _Running:
    stderr = ending.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed with the others
    stdin: IO[bytes] | int = fed_by or (subprocess.PIPE if program.told else subprocess.DEVNULL)
    try:
        process = subprocess.Popen(
            list(program.words),
            env=dict(program.variables),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    except OSError as error:
        raise CannotMeasure(f"{program.name} cannot be run: {error}.") from None
    ending.callback(_end, process)
    if process.stdin:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(program.told.encode())
        process.stdin = None
    return _Running(program, process, stderr)


def _let_end(process: "subprocess.Popen[bytes]", is_wanted: bool) -> None:
    """Read what the next program left unread, since the writer checks its input to the end; or stop it."""
    if process.stdout:
        with process.stdout:
            while is_wanted and process.stdout.read(CHUNK):
                pass


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.stdout and not process.stdout.closed:
        process.stdout.close()
    if process.poll() is None:
        process.kill()
        process.wait()


def exit_text(status: int, stderr: str) -> str:
    """Say how a program ended, with the first error it named and the first detail."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}."
    lines = stderr.splitlines()
    named = [line.strip() for line in lines if "error:" in line.lower()][:1] or lines[:1]
    named += [line.split("detail:", 1)[1].strip() for line in lines if "detail:" in line][:1]
    return f"{' '.join(named) or 'it said nothing'} (exit {status})"
