"""File locks that the kernel releases when their holders die, however they die.

Three files in `<data>/postgres/`, never deleted (a lock on an unlinked file guards nothing):

- `control.lock`: exclusive while somebody starts, joins, leaves or stops. Nothing below happens outside of it.
- `members.lock`: shared, held by every process that uses the server. Who can make it exclusive is the last one.
- `server.lock`:  exclusive, inherited by the postmaster and all its children (and by initdb): held means that at
  least one process of the server lives, free means that none does. Zombies hold nothing.

`flock` belongs to the open file description, so it works between threads, processes and containers of one machine.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

_open_locks: "set[FileLock]" = set()  # until closed: a lock that nobody refers to is still held


class FileLock:
    """One open file description of a lock file, holding nothing until asked. Not inherited through `exec`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        created = not path.exists()
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if created and os.geteuid() == 0:
            give_to_owner_of(path.parent, self._fd)
        _open_locks.add(self)

    def fileno(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    @property
    def closed(self) -> bool:
        return self._fd is None

    def try_exclusive(self) -> bool:
        """Take it exclusively now, or return False. A shared lock held before is lost when this fails."""
        try:
            fcntl.flock(self.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def exclusive(self, waiting: Callable[[], None]) -> None:
        """Take it exclusively; calls `waiting` once when another holder makes us wait."""
        if not self.try_exclusive():
            waiting()
            fcntl.flock(self.fileno(), fcntl.LOCK_EX)

    def shared(self) -> None:
        fcntl.flock(self.fileno(), fcntl.LOCK_SH)

    def close(self) -> None:
        """Close our descriptor; the lock is released unless a child that inherited it still lives."""
        if self._fd is not None:
            _open_locks.discard(self)
            fd, self._fd = self._fd, None
            os.close(fd)


def give_to_owner_of(directory: Path, fd: int) -> None:
    """As root: a file made in somebody's directory belongs to them, so that they can use it without root later."""
    owner = directory.stat()
    os.fchown(fd, owner.st_uid, owner.st_gid)


def _forget_after_fork() -> None:
    # A forked child shares the description: unless it closes its copy, its parent stays a member after its death.
    for lock in list(_open_locks):
        lock.close()


os.register_at_fork(after_in_child=_forget_after_fork)
