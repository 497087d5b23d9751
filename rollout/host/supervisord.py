"""A target's processes: supervisord's, driven over its Unix socket, where there are no units of systemd.

``provision`` and ``deploy`` leave one program file a process; ``ensure`` makes what runs equal to the files.
"""

import os
import re
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from rollout.errors import Refused, RolloutError
from rollout.files import file_lock
from rollout.host.owner import become_owner
from rollout.host.ports import holder, listening_pid
from rollout.host.slot import telling_part
from rollout.target.site_processes import of_site, started_at
from rollout.target.steering import Steering
from rollout.target.target import SLOTS, Target, heartbeat, root_directory
from rollout.waiting import attempts

START_SECONDS = 20.0
WATCH_SECONDS = 1.0
RUNNING = "RUNNING"
STOP_SIGNAL = re.compile(r"^\[program:(.+)\]$(?:\n.+)*?\nstopsignal=(\w+)$", re.MULTILINE)


def ensure_as_owner(target: Target, names: list[str]) -> dict[str, Any]:
    """Do as ``ensure``, where root started us: only root can name who holds a port."""
    refuse_systemd(target)
    root = root_directory()
    # No supervisord can take over what another one started. Asked in this order: another target's call may
    # start a supervisord meanwhile, and what that one starts is no orphan.
    alive = of_site(root)
    orphans = {} if daemon_pid(root) else alive
    end(root, orphans)
    require_ports(root, target, names)
    become_owner(target.directory)
    answer = ensure(root, target, names)
    if not orphans:
        return answer
    count = len(orphans)
    return {**answer, "changed": True, "say": f"supervisord was gone: {count} of its processes were ended"}


def stop(target: Target) -> dict[str, Any]:
    """Stop every process of this machine's targets."""
    refuse_systemd(target)
    return stop_all(root_directory())


def refuse_systemd(target: Target) -> None:
    """Refuse to drive a supervisord where there is none."""
    if target.settings["process_manager"] == "systemd":
        raise Refused(
            f"{target.name}: systemd keeps the processes of this host running.",
            f"systemctl list-dependencies p12-{target.name}.target",
        )


def require_ports(root: Path, target: Target, named: Iterable[str] = ()) -> None:
    """See that the ports of a target's processes are free, or held by the site itself.

    Run by root it can name every holder; an ordinary user sees only its own processes.

    :raises Refused: a port is taken; says by whom.
    """
    names = tuple(named) or tuple(_described(root, target))
    for name in names:
        port = port_of(target, name)
        if port and _is_strangers(root, port):
            raise Refused(
                f"{target.name}: port {port}, wanted for {name}, is held by {holder('127.0.0.1', port)}.",
                "End that program, or choose other ports: p12_port in the inventory's group_vars",
            )


def _is_strangers(root: Path, port: int) -> bool:
    """Whether somebody else holds a port; who ended while we asked holds none, and ours may restart often."""
    pid = listening_pid("127.0.0.1", port)
    return pid is not None and pid not in of_site(root) and pid == listening_pid("127.0.0.1", port)


def ensure(root: Path, target: Target, named: Iterable[str] = ()) -> dict[str, Any]:
    """Start supervisord when it is not up, then make processes of the target run as their files say.

    ``named`` are names such as ``haproxy`` or ``blue-1.HOST``; none means every one that has a file, and no
    other. Then a slot without traffic is started too but not waited for: what was left broken there stops
    nobody.

    :raises RolloutError: a process does not stay up; shows the end of its log.
    """
    chosen = tuple(named) or tuple(_described(root, target))
    idle = () if named else _idle_slots(target)
    names = [f"p12-{target.name}-{name}" for name in chosen]
    needed = [f"p12-{target.name}-{name}" for name in chosen if name.split("-")[0] not in idle]
    with file_lock(root / "supervisor" / "ensure.lock", wait_seconds=60):
        started = _ensure_daemon(root)
        with _connected(root) as supervisor:
            changed = _apply_files(supervisor, names, "" if named else f"p12-{target.name}-")
            if f"p12-{target.name}-guard" in {*names} - changed:
                changed |= _end_hung_guard(supervisor, target)
            resumed = [name for name in names if _state(supervisor, name) != RUNNING]
            for name in resumed:
                _start(supervisor, name)
            _await_running(supervisor, needed)
    touched = sorted({*changed, *resumed}) or (names if started else [])
    return {"changed": bool(touched), "started": touched}


def watch(target: Target) -> int:
    """Kill the target's guard whenever it hangs, as systemd's watchdog does; supervisord starts it anew."""
    while True:
        time.sleep(WATCH_SECONDS)
        try:
            with _connected(root_directory()) as supervisor:
                ended = _end_hung_guard(supervisor, target)
        except (OSError, xmlrpc.client.Error) as error:
            print(f"watcher: supervisord does not answer: {error}", file=sys.stderr, flush=True)
            return 1
        if ended:
            print("watcher: the guard hung and was killed", file=sys.stderr, flush=True)


def _end_hung_guard(supervisor: Any, target: Target) -> set[str]:
    """Kill a guard that shows no sign of life though supervisord says that it runs; return its name then.

    ``supervisor`` alone knows which process that is now: a pid from a file may be somebody else's.
    """
    name = f"p12-{target.name}-guard"
    try:
        info = supervisor.getProcessInfo(name)
        seen = max(heartbeat(target).stat().st_mtime, info["start"])
        if info["statename"] != RUNNING or time.time() - seen <= target.settings["guard_hung_seconds"]:
            return set()
        supervisor.signalProcess(name, "KILL")
    except (FileNotFoundError, xmlrpc.client.Fault):  # it was never there, or is gone by now
        return set()
    for _ in attempts(START_SECONDS):
        if not Path(f"/proc/{info['pid']}").exists():
            break
    return {name}


def port_of(target: Target, name: str) -> int:
    """Return the port that a process listens on, 0 when it has none."""
    instances = {instance.name: instance.port for instance in target.instances}
    return int({**target.settings["ports"], **instances}.get(name, 0))


def reload(target: Target, name: str, signal: str) -> dict[str, Any]:
    """Have a running process read its configuration again; one that is not up will read it anyway.

    Under systemd the unit says how; one that cannot is started anew, as ``TERM`` does to others.

    :raises RolloutError: systemd refuses.
    """
    if target.settings["process_manager"] == "systemd":
        unit = f"p12-{target.name}-{name}.service"
        done = subprocess.run(["systemctl", "reload-or-restart", unit], capture_output=True, text=True)
        if done.returncode:
            raise RolloutError(f"{unit} was not reloaded: {done.stderr.strip()}", f"systemctl status {unit}")
        return {"changed": True}
    root, name = root_directory(), f"p12-{target.name}-{name}"
    if not daemon_pid(root):
        return {"changed": False}
    with _connected(root) as supervisor:
        running = name in _running(supervisor)
        if running:
            supervisor.signalProcess(name, signal)
    return {"changed": running}


def stop_all(root: Path, seconds: float = 60.0) -> dict[str, Any]:
    """Stop everything and supervisord itself, in reverse order of priority; wait until it is gone."""
    pid, count = daemon_pid(root), 0
    if pid:
        with _connected(root) as supervisor:
            count = len(_running(supervisor))
            supervisor.shutdown()
        if all(Path(f"/proc/{pid}").exists() for _ in attempts(seconds)):
            raise RolloutError(
                f"supervisord (pid {pid}) is still stopping after {seconds:g} s.", "./p12 down"
            )
    orphans = of_site(root)
    end(root, orphans, seconds)
    if not pid and not orphans:
        return {"changed": False, "say": "nothing was running"}
    count += len(orphans)
    without = f", {len(orphans)} of them without a supervisord" if orphans else ""
    return {"changed": True, "say": f"{count} {'process' if count == 1 else 'processes'} stopped{without}"}


def end(root: Path, processes: Mapping[int, str], seconds: float = 30.0) -> None:
    """End processes of a site, each by its own signal, then by force.

    :raises RolloutError: one is still there; names what is left.
    """
    files = (root / "supervisor" / "programs").glob("*.ini")
    alive = {pid: at for pid in processes if (at := started_at(pid))}
    signals = dict(STOP_SIGNAL.findall("".join(file.read_text() for file in files)))
    for pid, name in processes.items():
        _send(pid, signals.get(name, "INT" if name == "postgres" else "TERM"))
        _send(pid, "CONT")  # what was stopped ends when it goes on
    left = dict(processes)
    for by_force in (False, True):
        for pid in left if by_force else ():
            _send(pid, "KILL")
        for _ in attempts(seconds):
            left = {pid: processes[pid] for pid, at in alive.items() if started_at(pid) == at}
            if not left:
                return
    named = ", ".join(f"{name} (pid {pid})" for pid, name in sorted(left.items()))
    raise RolloutError(f"Still running: {named}.", "End it, then: ./p12 down")


def _send(pid: int, name: str) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, getattr(signal, f"SIG{name}"))


def daemon_pid(root: Path) -> int:
    """Return the pid of the supervisord that answers, 0 when none does."""
    try:
        with _connected(root) as supervisor:
            return int(supervisor.getPID())
    except (OSError, xmlrpc.client.Error):
        return 0


@contextmanager
def _connected(root: Path) -> Iterator[Any]:
    """Supervisord's methods, see http://supervisord.org/api.html."""
    socket_path = (root / "supervisor" / "socket").resolve()
    transport = SupervisorTransport(None, None, f"unix://{socket_path}")
    with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
        yield server.supervisor


def _running(supervisor: Any) -> list[str]:
    return [each["name"] for each in supervisor.getAllProcessInfo() if each["statename"] == RUNNING]


def _ensure_daemon(root: Path) -> bool:
    if daemon_pid(root):
        return False
    (root / "supervisor" / "socket").resolve().unlink(missing_ok=True)
    configuration = root / "supervisor" / "supervisord.conf"
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(configuration)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not any(daemon_pid(root) for _ in attempts(START_SECONDS)):
        raise RolloutError(
            f"supervisord does not start: {(done.stderr + done.stdout).strip()[-400:] or 'no answer'}",
            f"Its log: {root / 'supervisor' / 'supervisord.log'}",
        )
    return True


def _apply_files(supervisor: Any, names: Iterable[str], prefix: str) -> set[str]:
    """Take in the program files that changed; other targets' changes are left for their own call.

    What has a ``prefix`` and no file any more ends.
    """
    added, changed, removed = supervisor.reloadConfig()[0]
    mine = set(names)
    ended = {name for name in removed if prefix and name.startswith(prefix)}
    for name in (set(changed) & mine) | ended:
        supervisor.stopProcessGroup(name)
        supervisor.removeProcessGroup(name)
    for name in (set(added) | set(changed)) & mine:
        supervisor.addProcessGroup(name)
    return (set(added) | set(changed)) & mine | ended


def _idle_slots(target: Target) -> list[str]:
    shares = Steering.of(target).state().shares
    return [slot for slot in SLOTS if not shares.get(slot)]


def _described(root: Path, target: Target) -> list[str]:
    """Return the names of every process that has a place in one of the target's program files."""
    prefix = f"p12-{target.name}-"
    files = sorted((root / "supervisor" / "programs").glob(f"{prefix}*.ini"))
    sections = re.compile(rf"^\[program:{prefix}(.+)\]$", re.MULTILINE)
    return [name for file in files for name in sections.findall(file.read_text())]


def _state(supervisor: Any, name: str) -> str:
    try:
        return str(supervisor.getProcessInfo(name)["statename"])
    except xmlrpc.client.Fault as fault:
        raise RolloutError(f"supervisord has no process {name}.", "./p12 provision") from fault


def _start(supervisor: Any, name: str) -> None:
    """Start a process, unless supervisord is at it already: it starts what is new by itself."""
    try:
        supervisor.startProcess(name, False)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.ALREADY_STARTED:
            raise RolloutError(f"supervisord does not start {name}: {fault.faultString}.") from fault


def _await_running(supervisor: Any, names: Iterable[str]) -> None:
    for _ in attempts(START_SECONDS):
        states = {name: _state(supervisor, name) for name in names}
        waiting = {name: state for name, state in sorted(states.items()) if state != RUNNING}
        if not waiting:
            return
        dead = [name for name, state in waiting.items() if state in ("FATAL", "EXITED")]
        if dead:
            break
    name = (dead or list(waiting))[0]
    log = telling_part(str(supervisor.readProcessStdoutLog(name, -20_000, 0)))
    raise RolloutError(f"{name} does not stay up ({waiting[name]}).", f"The end of its log:\n{log}")
