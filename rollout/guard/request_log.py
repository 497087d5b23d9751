"""The balancer's request log, read all the time: HAProxy sends a line a request, and never waits for us.

Where the kernel keeps only a few datagrams a socket (``net.unix.max_dgram_qlen`` is 10 without systemd), a
burst would be lost: so HAProxy deals its lines out to many sockets.
"""

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from checks.window import cells
from rollout.target.haproxy import LineCounts
from rollout.target.target import Target

# As many as the template of HAProxy's configuration names.
SOCKETS = 32
LONGEST_LINE = 8192
RECEIVE_BYTES = 1 << 22
# Lines that arrive meanwhile are read together, but for when half of the sockets have some.
PAUSE_SECONDS = 0.02
# Who does not take what was read for so long gets nothing: memory is bounded.
MOST_LINES = 200_000
ALIGNMENTS = 20


class RequestLog:
    """Reads in a thread of its own; ``take`` gives what came since the last time, and what is missing of it.

    HAProxy numbers its lines and counts its answers, both at once, for it has one thread: what it has counted
    when it is asked has been sent or is lost.
    """

    def __init__(self, directory: Path, slots: dict[str, str]) -> None:
        self.directory = directory
        self._salt = os.urandom(16)
        self._cells = cells.Cells(slots)
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}
        self._numbers: dict[int, set[int]] = {}
        self._unreadable = self._held = self.lines = 0
        self._pid: int | None = None
        self.counted = 0
        self._next: int | None = None
        self._bind()
        threading.Thread(target=self._read_for_ever, name="request log", daemon=True).start()

    def take(self, ask: Callable[[], LineCounts]) -> dict[str, Any]:
        """What a sample holds of the requests since the last time; ``ask`` asks HAProxy what it counted."""
        with self._lock:
            counts = self._drained(ask)
            if broken := self._account(counts):
                self._align(ask)
            taken = self._cells.take()
            self._unreadable = self._held = 0
        return {
            **taken,
            **{"lines": self.lines, "counted": counts.lines, "dropped": counts.dropped, "broken": broken},
        }

    def close(self) -> None:
        """Stop reading."""
        with self._lock:
            self._unbind()

    def _account(self, counts: LineCounts) -> list[str]:
        """Say why not every request since the last time is known; forget the numbers that are done with."""
        broken = [f"{self._unreadable} lines of the request log are unreadable"] if self._unreadable else []
        if self._held > MOST_LINES:
            broken.append(f"nobody took {self._held} lines of the request log (limit {MOST_LINES})")
        read = self._numbers.get(counts.pid, set())
        wanted = counts.lines - self.counted
        if self._pid is None:
            broken.append("the request log is read from now on")
        elif counts.pid != self._pid:
            broken.append("HAProxy started anew: what its last process logged is not accounted for")
        elif wanted < 0:
            broken.append(f"HAProxy's counts fell from {self.counted} to {counts.lines}")
        else:
            # Who has seen no line yet does not know the number of the next one.
            first = min(read, default=0) if self._next is None else self._next
            missing = wanted - sum(first <= number < first + wanted for number in read)
            if missing:
                broken.append(f"{missing} of {wanted} requests are missing from the request log")
                self._bind_again_if_taken()
            if read:
                self._next = first + wanted
        self._remember(counts)
        return broken

    def _align(self, ask: Callable[[], LineCounts]) -> None:
        """Begin anew at a moment when HAProxy counts nothing, so that the next line is the next it counts."""
        for _ in range(ALIGNMENTS):
            counts = self._drained(ask)
            self._next, self._numbers = None, {}
            self._remember(counts)
            if ask() == counts:
                return

    def _drained(self, ask: Callable[[], LineCounts]) -> LineCounts:
        """What HAProxy counted, once all that it had sent by then is read."""
        counts = ask()
        for source in self._sockets.values():
            self._drain(source)
        return counts

    def _remember(self, counts: LineCounts) -> None:
        """Go on from here; forget the numbers that are done with, and those of processes that ended."""
        self._pid, self.counted = counts.pid, counts.lines
        read = self._numbers.get(counts.pid, set())
        self._numbers = {counts.pid: {number for number in read if number >= (self._next or 0)}}

    def _read_for_ever(self) -> None:
        while True:
            with self._lock:
                waiting, sources = self._waiting, self._sockets
            ready = waiting.poll(1000)
            with self._lock:
                if not self._sockets:
                    return
                for number, _ in ready if sources is self._sockets else ():
                    with suppress(BlockingIOError):
                        self._add(sources[number].recv(LONGEST_LINE))
            if len(ready) < SOCKETS // 2:
                time.sleep(PAUSE_SECONDS)

    def _drain(self, source: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                self._add(source.recv(LONGEST_LINE))

    def _add(self, datagram: bytes) -> None:
        line = cells.parse_line(datagram, self._salt)
        if line is None:
            self._unreadable += not cells.is_notice(datagram)
            return
        self._held += 1
        self.lines += 1
        if self._held <= MOST_LINES:
            self._numbers.setdefault(line.pid, set()).add(line.number)
            self._cells.add(line)

    def _bind(self) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        # HAProxy runs as whoever has the run directory, and so does a guard that nobody started as root.
        user = self.directory.parent.stat().st_uid if os.geteuid() == 0 else -1
        os.chown(self.directory, user, -1)
        self._sockets, self._waiting = {}, select.poll()
        for number in range(SOCKETS):
            source = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sockets[source.fileno()] = source
            self._waiting.register(source, select.POLLIN)
            source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            path = self.directory / str(number)
            path.unlink(missing_ok=True)
            source.bind(str(path))
            path.chmod(0o600)
            os.chown(path, user, -1)
        self._bound = self._inodes()

    def _unbind(self) -> None:
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _bind_again_if_taken(self) -> None:
        """Bind anew where somebody else did so meanwhile, or the sockets' files are gone."""
        if self._inodes() != self._bound:
            self._unbind()
            self._bind()

    def _inodes(self) -> list[int]:
        with suppress(OSError):
            return [(self.directory / str(number)).stat().st_ino for number in range(SOCKETS)]
        return []


def reader(target: Target) -> RequestLog:
    """What reads a target's request log; raises OSError where its sockets cannot be made."""
    return RequestLog(target.path("request_log"), {server.name: server.slot for server in target.servers})
