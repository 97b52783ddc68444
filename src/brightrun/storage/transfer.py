"""Downloading an object to a local file that appears whole or not at all."""

import hashlib
import os
import tempfile
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path

from brightrun.errors import UnavailableError
from brightrun.storage.disk import BLOCK, disk_faults, fdatasync, fsync_directory
from brightrun.storage.store import ObjectInfo


def download_whole(source: BufferedIOBase, target: Path, info: ObjectInfo) -> ObjectInfo:
    """Copy `source` to `target`, checked against `info`; `info` with the SHA-256 of what was written."""
    digest = hashlib.sha256()
    size = 0
    with disk_faults(f"The file {target.name!r}"):
        fd, name = tempfile.mkstemp(prefix=f".{target.name[:40]}-", suffix=".part", dir=target.parent)
        temporary = Path(name)
        try:
            with os.fdopen(fd, "wb") as file:
                while block := source.read(BLOCK):
                    file.write(block)
                    digest.update(block)
                    size += len(block)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                fdatasync(file.fileno())
            sha256 = digest.hexdigest()
            if size != info.size or info.sha256 not in {None, sha256}:
                raise UnavailableError(
                    f"The download of {info.path!r} does not match what is stored: {info.size:,} bytes with SHA-256 "
                    f"{info.sha256 or 'unknown'} were expected, {size:,} bytes with {sha256} arrived. Try again; if it "
                    "happens twice, the stored object is damaged."
                )
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_directory(target.parent)
    return replace(info, sha256=sha256)
