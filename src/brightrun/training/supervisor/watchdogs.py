"""What can go wrong around a living trainer: it hangs, the disk fills up, the system kills it for memory."""

import re
import shutil
import time
from pathlib import Path

_HEARTBEAT_FILE = "heartbeat.json"
_OOM_KILL = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)


class StallWatch:
    """No sign of life for `limit_s`. The trainer beats from a thread of its own, so a long step is not a stall.

    Measured on the monotonic clock from when the last beat was seen: a clock that is set, or a machine that slept,
    makes no stall.
    """

    def __init__(self, run_dir: Path, limit_s: float) -> None:
        self._path = run_dir / _HEARTBEAT_FILE
        self._limit_s = limit_s
        self._last: int | None = None
        self._since = time.monotonic()

    def silent_s(self) -> float:
        """Seconds since the last beat was seen, or since the watch began. Blocks: reads a file's time."""
        try:
            beat = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            beat = None
        if beat != self._last:
            self._last, self._since = beat, time.monotonic()
        return time.monotonic() - self._since

    def stalled(self) -> bool:
        return self.silent_s() > self._limit_s


def disk_shortage(path: Path, least_bytes: int) -> str | None:
    """Why nothing should be written below `path` now, as a sentence; None while at least `least_bytes` are free."""
    free = shutil.disk_usage(path).free
    if free >= least_bytes:
        return None
    return (
        f"The disk with the run directories has {free / 1e6:,.0f} MB left, and {least_bytes / 1e6:,.0f} MB must stay "
        f"free (BRIGHTRUN_MIN_FREE_DISK_BYTES). Make room below {path}."
    )


def disk_is_full(path: Path) -> bool:
    """Less than 64 KiB left: not a log line more."""
    return shutil.disk_usage(path).free < 64 * 1024


def memory_kills() -> int:
    """How many processes the system has killed for memory so far: on this machine, and in this container."""
    return _count(Path("/proc/vmstat")) + _count(Path("/sys/fs/cgroup/memory.events"))


def _count(path: Path) -> int:
    try:
        match = _OOM_KILL.search(path.read_bytes())
    except OSError:  # not Linux, or no such limit here
        return 0
    return int(match[1]) if match else 0
