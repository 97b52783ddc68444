"""A body on its way to the disk: counted and hashed while it streams in, and kept only if it is what was announced.

One thread at a time calls these methods; they block.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from brightrun.errors import TooLargeError
from brightrun.storage.disk import disk_faults, fdatasync
from brightrun.storage.errors import HashMismatchError, SizeMismatchError
from brightrun.storage.store import ObjectInfo, StoredPart

# Writing back in steps starts the disk while the network still delivers, and keeps one big upload from filling the
# page cache with dirty pages that every other fsync would then wait for.
WRITE_BACK_BYTES = 32 * 1024 * 1024


class Incoming:
    """What an object's body and a part's body have in common. `what` names it in errors."""

    def __init__(self, fd: int, what: str, size: int | None, sha256: str | None) -> None:
        self._fd = fd
        self._what = what
        self._size = size
        self._expected_sha256 = sha256
        self._hash = hashlib.sha256()
        self._flushed = 0
        self.received = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes. TooLargeError as soon as there are more than announced."""
        if self._size is not None and self.received + len(data) > self._size:
            raise TooLargeError(
                f"{self._what} is larger than announced: {self._size:,} bytes were announced and more arrived. "
                "Nothing of it was kept.",
                details={"expected": self._size, "received_at_least": self.received + len(data)},
            )
        self._hash.update(data)
        with disk_faults(self._what):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self.received += len(data)
            if self.received - self._flushed >= WRITE_BACK_BYTES:
                fdatasync(self._fd)
                self._flushed = self.received

    def _verified_sha256(self) -> str:
        """The hash of the whole body, which is what was announced; SizeMismatchError or HashMismatchError otherwise."""
        if self._size is not None and self.received != self._size:
            raise SizeMismatchError(
                f"{self._what} is incomplete: {self._size:,} bytes were announced and {self.received:,} arrived. "
                "Nothing of it was kept; send it again.",
                details={"expected": self._size, "received": self.received},
            )
        sha256 = self._hash.hexdigest()
        if self._expected_sha256 is not None and sha256 != self._expected_sha256.lower():
            raise hash_mismatch(self._what, self._expected_sha256.lower(), sha256)
        return sha256

    def close(self) -> None:
        """Let go; what was not committed disappears. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class IncomingObject(Incoming):
    """A whole object, in a temporary file outside the visible tree until `commit` publishes it."""

    def __init__(
        self,
        folder: Path,
        what: str,
        *,
        size: int | None,
        sha256: str | None,
        publish: Callable[[Path, str], ObjectInfo],
    ) -> None:
        with disk_faults(what):
            fd, name = tempfile.mkstemp(prefix="body-", suffix=".part", dir=folder)
        super().__init__(fd, what, size, sha256)
        self._temporary = Path(name)
        self._publish = publish

    def commit(self) -> ObjectInfo:
        """Verify, make durable, and let the object appear."""
        sha256 = self._verified_sha256()
        with disk_faults(self._what):
            os.fchmod(self._fd, 0o644)
            # Not only the data: the time of change must survive a power cut too, the object's note names it.
            os.fsync(self._fd)
            return self._publish(self._temporary, sha256)

    def close(self) -> None:
        super().close()
        self._temporary.unlink(missing_ok=True)


class IncomingPart(Incoming):
    """One part of a multipart upload, in a file without a name (gone with the process) until `commit` stores it."""

    def __init__(self, folder: Path, what: str, *, size: int, store: Callable[[int, str], StoredPart]) -> None:
        with disk_faults(what):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in `close`
        super().__init__(os.dup(self._file.fileno()), what, size, None)
        self._store = store

    def commit(self) -> tuple[StoredPart, str]:
        """Verify and store the part durably; the stored part and its SHA-256."""
        sha256 = self._verified_sha256()
        with disk_faults(self._what):
            return self._store(self._fd, sha256), sha256

    def close(self) -> None:
        super().close()
        self._file.close()


def hash_mismatch(what: str, expected: str, actual: str) -> HashMismatchError:
    return HashMismatchError(
        f"{what} is not the announced file: its SHA-256 should be {expected} and is {actual}. Nothing of it was kept; "
        "check the file and start the upload again.",
        details={"expected": expected, "received": actual},
    )
