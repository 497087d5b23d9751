"""The part of a log that says why a process ended."""

LINES = 20


def telling_part(log: str) -> str:
    """Return the last traceback with what follows it, else the last lines; at most ``LINES`` of the end."""
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    if starts:
        lines = _without_frames(lines[starts[-1] :])
    return "\n".join(f"  {line}" for line in lines[-LINES:])


def _without_frames(lines: list[str]) -> list[str]:
    """Drop the frames of a traceback: the error and where it was raised say more in fewer lines."""
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    return lines[frames[-1] :] if frames else lines
