"""Multipart uploads on a local disk, one folder each: `<data>/uploads/<id>/`.

    upload.json   what it will become (bucket, path, expected hash, start); the folder counts once this is there
    data          the object being assembled, sparse, each part at its offset
    journal       one JSON line per accepted part, appended after the part's bytes are durable in `data`
    lock          held (flock) by whoever changes the folder, so that several processes may serve one upload

A part is received into a file without a name and copied to its place under the lock, so two attempts at one part never
mix, an accepted part is never overwritten, and a kill at any moment leaves no half part counted. Completing needs no
concatenation: hash `data` once and rename it.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from brightrun.clock import utcnow
from brightrun.ids import uuid7
from brightrun.storage.disk import copy_range, disk_faults, fdatasync, fsync_directory, write_whole
from brightrun.storage.errors import (
    HashMismatchError,
    PartConflictError,
    UploadIncompleteError,
    UploadNotFoundError,
)
from brightrun.storage.incoming import IncomingPart
from brightrun.storage.paths import Bucket
from brightrun.storage.store import PartRange, StoredPart, UploadId


@dataclass(frozen=True, slots=True)
class Assembly:
    """An upload whose parts are all in place: the file to publish."""

    data: Path
    sha256: str | None  # expected, as announced at the start


class LocalMultipart:
    """One upload's folder. bucket and path must be the ones it was started for; otherwise it is not found."""

    def __init__(self, uploads: Path, bucket: Bucket, path: str, upload_id: str) -> None:
        self.id = UploadId.parse(upload_id)
        if len(self.id.native) != 32 or not set(self.id.native) <= set("0123456789abcdef"):
            raise UploadNotFoundError("There is no such upload: its id is not one of ours.")
        self._folder = uploads / self.id.native
        self._bucket = bucket
        self._path = path

    @classmethod
    def start(
        cls, uploads: Path, bucket: Bucket, path: str, *, size: int, part_size: int, sha256: str | None
    ) -> "LocalMultipart":
        upload = cls(uploads, bucket, path, str(UploadId(size, part_size, uuid7().hex)))
        record = {
            "bucket": str(bucket),
            "path": path,
            "upload_id": str(upload.id),
            "sha256": sha256,
            "started": utcnow().isoformat(),
        }
        with disk_faults("the upload"):
            upload._folder.mkdir()
            for name in ("data", "journal", "lock"):
                (upload._folder / name).touch()
            os.truncate(upload._folder / "data", size)
            write_whole(upload._folder / "upload.json", json.dumps(record).encode(), scratch=uploads)
            fsync_directory(uploads)
        return upload

    def receive(self, number: int) -> IncomingPart:
        """A place for part `number`'s body."""
        parts = self.id.parts()
        if not 1 <= number <= len(parts):
            raise UploadNotFoundError(f"This upload has parts 1 to {len(parts)}, not {number}.")
        part = parts[number - 1]
        self._record()
        try:
            return IncomingPart(
                self._folder,
                f"Part {number} of {self._path.rpartition('/')[2]!r}",
                size=part.size,
                store=lambda fd, sha256: self._store(part, fd, sha256),
            )
        except FileNotFoundError:
            raise self._gone() from None

    def _store(self, part: PartRange, fd: int, sha256: str) -> StoredPart:
        with self._locked():
            known = self._journal().get(part.number)
            if known is None:
                with (self._folder / "data").open("r+b") as data:
                    copy_range(fd, data.fileno(), part.size, part.offset)
                    fdatasync(data.fileno())
                self._append({"part": part.number, "size": part.size, "sha256": sha256})
            elif known != sha256:
                raise PartConflictError(
                    f"Part {part.number} of {self._path.rpartition('/')[2]!r} is stored already, with other content: "
                    "the file changed between two attempts. Start a new upload.",
                    details={"part": part.number, "stored_sha256": known, "received_sha256": sha256},
                )
        return StoredPart(part.number, part.size)

    def stored(self) -> list[StoredPart]:
        """The accepted parts, by number. UploadNotFoundError when there is no such upload."""
        self._record()
        sizes = {part.number: part.size for part in self.id.parts()}
        try:
            return [StoredPart(number, sizes[number]) for number in sorted(self._journal())]
        except FileNotFoundError:
            raise self._gone() from None

    @contextlib.contextmanager
    def assembled(self) -> Iterator[Assembly]:
        """Hold the upload while its finished file is published; the folder goes when the block succeeds.

        UploadIncompleteError when parts are missing. The file may be gone already, when an earlier completion was
        killed between publishing and tidying: then `data` does not exist.
        """
        with self._locked() as record:
            stored = self._journal()
            missing = [part.number for part in self.id.parts() if part.number not in stored]
            if missing:
                shown = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
                raise UploadIncompleteError(
                    f"The upload of {self._path.rpartition('/')[2]!r} is not complete: {len(missing)} of "
                    f"{len(self.id.parts())} parts are missing ({shown}). Send them and complete it again.",
                    details={"missing": missing},
                )
            try:
                yield Assembly(self._folder / "data", record["sha256"])
            except HashMismatchError:
                # Accepted parts never change, so this upload can never become the announced file.
                self._remove()
                raise
            self._remove()

    def abort(self) -> None:
        try:
            with self._locked():
                self._remove()
        except UploadNotFoundError:
            # What a killed process left half made or half removed has no record; nobody else can be using it.
            shutil.rmtree(self._folder, ignore_errors=True)

    def _remove(self) -> None:
        # The record first: without it the folder is nobody's upload, whatever a kill leaves of it.
        (self._folder / "upload.json").unlink()
        fsync_directory(self._folder)
        shutil.rmtree(self._folder)

    def _record(self) -> dict[str, str | None]:
        record = read_record(self._folder)
        if record is None or (record["bucket"], record["path"], record["upload_id"]) != (
            str(self._bucket),
            self._path,
            str(self.id),
        ):
            raise self._gone()
        return record

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, str | None]]:
        try:
            fd = os.open(self._folder / "lock", os.O_RDWR)
        except FileNotFoundError:
            raise self._gone() from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Completed or aborted while we waited: the record is gone.
            yield self._record()
        finally:
            os.close(fd)

    def _journal(self) -> dict[int, str]:
        """Accepted parts' hashes by number. A last line that a kill cut short is not counted."""
        lines = (self._folder / "journal").read_bytes().split(b"\n")[:-1]
        entries = (json.loads(line) for line in lines if line)
        return {entry["part"]: entry["sha256"] for entry in entries}

    def _append(self, entry: dict[str, str | int]) -> None:
        with (self._folder / "journal").open("r+b") as journal:
            content = journal.read()
            # Cut what a kill left of an unfinished line, or the new entry would be glued to it.
            end = content.rfind(b"\n") + 1
            journal.truncate(end)
            journal.seek(end)
            journal.write(json.dumps(entry).encode() + b"\n")
            journal.flush()
            fdatasync(journal.fileno())

    def _gone(self) -> UploadNotFoundError:
        return UploadNotFoundError(
            f"There is no upload of {self._path.rpartition('/')[2]!r} with this id: it was completed, aborted, or "
            "swept after waiting too long. Start a new one."
        )


def read_record(folder: Path) -> dict[str, str | None] | None:
    """`upload.json` of an upload's folder; None when it is not (or no longer) an upload."""
    try:
        record: dict[str, str | None] = json.loads((folder / "upload.json").read_bytes())
    except FileNotFoundError:
        return None
    return record


def started(record: dict[str, str | None]) -> datetime:
    return datetime.fromisoformat(str(record["started"]))
