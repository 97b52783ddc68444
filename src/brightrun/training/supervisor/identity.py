"""Who supervises: a machine by its data directory, a supervisor by its process."""

import os
import secrets
import socket
from pathlib import Path

import psutil

from brightrun.training.executors.base import ProcessIdentity
from brightrun.training.executors.local import process_of

_MACHINE_FILE = ".machine"


def machine_id(runs_dir: Path) -> str:
    """Names the disk that run directories are on: made once, kept beside them."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    path = runs_dir / _MACHINE_FILE
    if not path.exists():
        aside = runs_dir / f"{_MACHINE_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
        aside.write_text(f"{socket.gethostname()}-{secrets.token_hex(4)}\n", encoding="utf-8")
        try:
            os.link(aside, path)  # Unlike rename, fails when another process was first: both then read the same.
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    return path.read_text(encoding="utf-8").strip()


def _namespace() -> str:
    """Where a pid means something: this host, and this container of it."""
    try:
        inside = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        inside = "-"
    return f"{socket.gethostname()} {inside}"


def new_owner() -> str:
    """The name under which a supervisor of this process holds leases."""
    process = psutil.Process()
    return f"{_namespace()} {process.pid} {process.create_time():.2f} {secrets.token_hex(4)}"


def is_dead(owner: str) -> bool:
    """True when the supervisor's process is known to be gone: its jobs need not wait for their leases to expire."""
    parts = owner.rsplit(" ", 3)
    if len(parts) != 4 or parts[0] != _namespace():
        return False
    try:
        identity = ProcessIdentity(int(parts[1]), float(parts[2]))
    except ValueError:
        return False
    return process_of(identity) is None
