"""One trainer a run directory. The kernel drops the lock with its process, so a dead trainer never holds one."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from brightrun.trainer.outcomes import TrainerStop, bad_configuration

LOCK_FILE = "lock"


class RunLock:
    """An exclusive `flock` on RUN_DIR/lock, held until the process ends or the block is left."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / LOCK_FILE
        self._fd: int | None = None

    def __enter__(self) -> "RunLock":
        # Not inheritable (Python's default), or a child process would keep the lock after we are gone.
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise self._held() from None
        self._fd = fd
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _held(self) -> TrainerStop:
        return bad_configuration(
            f"Another trainer is working on {self.path.parent}; this one leaves it alone.",
            code="locked",
            advice="Wait for it, or stop it; its process id is in trainer.json.",
        )
