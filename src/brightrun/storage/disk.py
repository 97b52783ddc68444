"""Bytes on a local disk: what makes a write durable, a file appear whole, and a full disk a clear error."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from brightrun.errors import ConflictError, StorageFullError

# macOS has no fdatasync.
fdatasync = getattr(os, "fdatasync", os.fsync)

BLOCK = 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def disk_faults(what: str) -> Iterator[None]:
    """Turn the disk's refusals into errors for a person; `what` says what was being stored."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(
                f"The disk of the data directory is full: {what} could not be stored, and nothing of it was kept. "
                "Free some space and try again."
            ) from error
        raise


def require_room(folder: Path, size: int, min_free: int, what: str) -> None:
    """StorageFullError unless `size` bytes fit and `min_free` bytes stay free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if free - size < min_free:
        raise StorageFullError(
            f"There is no room for {what} of {size:,} bytes: the disk of the data directory has {free:,} bytes free, "
            f"and {min_free:,} are kept free. Free some space and try again.",
            details={"size": size, "free": free, "kept_free": min_free},
        )


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Only one thread of all processes is in here for one `path`, an empty file that stays. A kill lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def fsync_directory(folder: Path) -> None:
    """Make the names in `folder` durable."""
    sync_file(folder)


def sync_file(path: Path) -> None:
    """Make a file's content and times durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(folder: Path) -> None:
    """`mkdir -p` whose new directories survive a power cut."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        fsync_directory(new.parent)


def write_whole(path: Path, data: bytes, *, scratch: Path) -> None:
    """Write a small file that is there whole and durable, or not at all. A kill leaves at most a file in `scratch`."""
    make_directories(path.parent)
    temporary = scratch / f"small-{os.urandom(8).hex()}.part"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            fdatasync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def move_into_place(source: Path, target: Path) -> None:
    """Rename a durable file to its final name, durably; an existing target is replaced in one step."""
    for attempt in range(5):
        try:
            make_directories(target.parent)
            source.replace(target)
            break
        except FileNotFoundError:
            # A deletion next door just removed the empty folder; the source itself must still be there.
            if attempt == 4 or not source.exists():
                raise
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            raise ConflictError(
                f"An object cannot be stored as {target.name!r}: a folder has that name, or a part of its path is an "
                "object. Choose another name.",
                code="object_path_taken",
            ) from error
    fsync_directory(target.parent)


def copy_range(source_fd: int, target_fd: int, size: int, target_offset: int) -> None:
    """Copy the first `size` bytes of one file into another at an offset, inside the kernel where it can."""
    done = 0
    in_kernel = hasattr(os, "copy_file_range")
    while done < size:
        count = 0
        if in_kernel:
            try:
                count = os.copy_file_range(source_fd, target_fd, size - done, done, target_offset + done)
            except OSError as error:
                if error.errno in _FULL:
                    raise
                in_kernel = False  # another file system, or one that cannot
        if not in_kernel:
            block = os.pread(source_fd, min(BLOCK, size - done), done)
            count = os.pwrite(target_fd, block, target_offset + done) if block else 0
        if count == 0:
            raise OSError(errno.EIO, f"the file ended after {done} of {size} bytes while it was copied")
        done += count


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
