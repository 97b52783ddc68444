"""Object storage in a folder: `<data>/objects/<bucket>/<path>`, reached through URLs that our own server serves.

    objects/<bucket>/<path>      the objects, whole files and nothing else
    object-info/<bucket>/…       one small JSON file an object: its SHA-256, and the upload that made it
    uploads/                     bodies and multipart uploads under way

All three are on one file system, so that an object appears by one rename.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brightrun.errors import ConflictError, InvalidInputError
from brightrun.storage.disk import (
    BLOCK,
    disk_faults,
    file_lock,
    fsync_directory,
    make_directories,
    move_into_place,
    require_room,
    sha256_of,
    sync_file,
    write_whole,
)
from brightrun.storage.errors import ObjectExistsError, ObjectNotFoundError, UploadNotFoundError
from brightrun.storage.incoming import IncomingObject, IncomingPart, hash_mismatch
from brightrun.storage.local_multipart import LocalMultipart, read_record, started
from brightrun.storage.paths import Bucket, check_bucket, check_folder, check_path
from brightrun.storage.signing import UrlSigner
from brightrun.storage.store import (
    Multipart,
    MultipartStatus,
    ObjectInfo,
    OpenMultipart,
    PartUrl,
    StoredPart,
    UploadId,
    fitting_part_size,
)
from brightrun.storage.transfer import download_whole


class LocalStore:
    """The `ObjectStore` of one machine. min_free_bytes: uploads are refused when they would leave less than this."""

    def __init__(self, data: Path, signer: UrlSigner, *, min_free_bytes: int) -> None:
        self._signer = signer
        self._objects = data / "objects"
        self._info = data / "object-info"
        self._uploads = data / "uploads"
        self._min_free = min_free_bytes
        for folder in (self._objects, self._info, self._uploads):
            # Whoever else has an account on this machine does not read the objects past their signed URLs.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # --- signed URLs --------------------------------------------------------------------------------------------

    @property
    def signer(self) -> UrlSigner:
        return self._signer

    def presign_put(
        self, bucket: Bucket, path: str, *, size: int, expires_s: int, sha256: str | None = None
    ) -> str | None:
        return self._signer.url(
            "PUT", "object", bucket, check_path(path), expires_s=expires_s, size=size, sha256=sha256
        )

    def presign_get(self, bucket: Bucket, path: str, *, expires_s: int, filename: str | None = None) -> str:
        return self._signer.url("GET", "object", bucket, check_path(path), expires_s=expires_s, filename=filename)

    def origins(self) -> tuple[str, ...]:
        return ()

    # --- multipart uploads --------------------------------------------------------------------------------------

    def start_multipart(
        self, bucket: Bucket, path: str, *, size: int, part_size: int, expires_s: int, sha256: str | None = None
    ) -> Multipart:
        part_size = fitting_part_size(size, part_size)
        require_room(self._uploads, size, self._min_free, "an upload")
        upload = LocalMultipart.start(
            self._uploads, check_bucket(bucket), check_path(path), size=size, part_size=part_size, sha256=sha256
        )
        status = self._status(bucket, path, upload.id, [], complete=False, expires_s=expires_s)
        return Multipart(status.upload_id, part_size, size, status.parts, status.complete_url, status.status_url)

    def multipart_status(self, bucket: Bucket, path: str, upload_id: str, *, expires_s: int) -> MultipartStatus:
        upload = LocalMultipart(self._uploads, bucket, check_path(path), upload_id)
        try:
            stored, complete = upload.stored(), False
        except UploadNotFoundError:
            if self._published_by(bucket, path, upload_id) is None:
                raise
            stored, complete = [StoredPart(part.number, part.size) for part in upload.id.parts()], True
        return self._status(bucket, path, upload.id, stored, complete=complete, expires_s=expires_s)

    def complete_multipart(self, bucket: Bucket, path: str, upload_id: str) -> ObjectInfo:
        upload = LocalMultipart(self._uploads, bucket, check_path(path), upload_id)
        try:
            with upload.assembled() as assembly:
                published = self._published_by(bucket, path, upload_id)
                if published is not None:
                    return published
                sync_file(assembly.data)
                sha256 = sha256_of(assembly.data)
                if assembly.sha256 is not None and sha256 != assembly.sha256.lower():
                    raise hash_mismatch(_named(path), assembly.sha256.lower(), sha256)
                return self._publish(assembly.data, sha256, bucket, path, replace=False, upload_id=upload_id)
        except UploadNotFoundError:
            published = self._published_by(bucket, path, upload_id)
            if published is None:
                raise
            return published

    def abort_multipart(self, bucket: Bucket, path: str, upload_id: str) -> None:
        LocalMultipart(self._uploads, bucket, check_path(path), upload_id).abort()

    def list_multiparts(self, *, started_before: datetime) -> list[OpenMultipart]:
        records = [record for folder in self._uploads.iterdir() if (record := read_record(folder)) is not None]
        return [
            OpenMultipart(Bucket(str(record["bucket"])), str(record["path"]), str(record["upload_id"]), started(record))
            for record in records
            if started(record) < started_before
        ]

    def sweep_temporary(self, *, untouched_since: datetime) -> int:
        swept = 0
        for entry in self._uploads.iterdir():
            try:
                if entry.stat().st_mtime >= untouched_since.timestamp() or read_record(entry) is not None:
                    continue
            except NotADirectoryError:
                entry.unlink(missing_ok=True)
            except FileNotFoundError:
                continue
            else:
                shutil.rmtree(entry, ignore_errors=True)
            swept += 1
        return swept

    def _status(
        self, bucket: Bucket, path: str, upload: UploadId, stored: list[StoredPart], *, complete: bool, expires_s: int
    ) -> MultipartStatus:
        have = {part.number for part in stored}

        def url(method: str, route: str, **limits: int) -> str:
            return self._signer.url(method, route, bucket, path, expires_s=expires_s, upload_id=str(upload), **limits)

        return MultipartStatus(
            upload_id=str(upload),
            part_size=upload.part_size,
            size=upload.size,
            complete=complete,
            stored=tuple(stored),
            parts=tuple(
                PartUrl(part.number, url("PUT", "multipart/part", part=part.number, size=part.size), part.size)
                for part in upload.parts()
                if part.number not in have
            ),
            complete_url=url("POST", "multipart/complete"),
            status_url=url("GET", "multipart/status"),
        )

    # --- bodies that stream in (the routes use these) -------------------------------------------------------------

    def receive_object(self, bucket: Bucket, path: str, *, size: int, sha256: str | None) -> IncomingObject:
        """A place for the body of a signed PUT: exactly `size` bytes, written once."""
        require_room(self._uploads, size, self._min_free, _named(path))
        return self._incoming(bucket, path, size=size, sha256=sha256, replace=False)

    def receive_part(self, bucket: Bucket, path: str, upload_id: str, number: int) -> IncomingPart:
        """A place for the body of one part."""
        upload = LocalMultipart(self._uploads, bucket, check_path(path), upload_id)
        require_room(self._uploads, upload.id.part_size, self._min_free, _named(path))
        return upload.receive(number)

    def _incoming(
        self, bucket: Bucket, path: str, *, size: int | None, sha256: str | None, replace: bool
    ) -> IncomingObject:
        check_bucket(bucket)
        check_path(path)
        return IncomingObject(
            self._uploads,
            _named(path),
            size=size,
            sha256=sha256,
            publish=lambda file, digest: self._publish(file, digest, bucket, path, replace=replace),
        )

    def _publish(
        self, file: Path, sha256: str, bucket: Bucket, path: str, *, replace: bool, upload_id: str | None = None
    ) -> ObjectInfo:
        """Let the durable `file` appear as the object. With replace=False the same bytes are welcome again, and
        others are refused: an upload URL that is still valid must not change what was validated."""
        target = self._path(bucket, path)
        note_path = self._note(bucket, path)
        # Two bodies at once for one URL: the second one to be whole meets the first as stored.
        with disk_faults(_named(path)), file_lock(self._info / "locks" / note_path.parent.name):
            if not replace and target.is_file():
                present = self.head(bucket, path)
                if (present.sha256 or sha256_of(target)) != sha256:
                    raise ObjectExistsError(
                        f"{_named(path)} was uploaded already, with other content. An upload URL stores its object "
                        "once; create a new dataset for a new file."
                    )
            status = file.stat()
            note = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256, "upload_id": upload_id}
            # Before the object: a kill in between leaves a note that fits no file, which `head` does not believe.
            write_whole(note_path, json.dumps(note).encode(), scratch=self._uploads)
            try:
                move_into_place(file, target)
            except ConflictError:
                note_path.unlink(missing_ok=True)  # there was no object of this path, and there will be none
                raise
        return _info(bucket, path, status, sha256)

    # --- objects --------------------------------------------------------------------------------------------------

    def local_file(self, bucket: Bucket, path: str) -> tuple[Path, ObjectInfo]:
        """The object's own file, for the download route; ObjectNotFoundError."""
        return self._path(bucket, path), self.head(bucket, path)

    def head(self, bucket: Bucket, path: str) -> ObjectInfo:
        status = self._stat(bucket, path)
        return _info(bucket, path, status, self._known(bucket, path, status).get("sha256"))

    def open_read(self, bucket: Bucket, path: str) -> io.BufferedIOBase:
        self._stat(bucket, path)
        return io.BufferedReader(io.FileIO(self._path(bucket, path)), buffer_size=BLOCK)

    def read_bytes(self, bucket: Bucket, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        with self.open_read(bucket, path) as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def put_bytes(self, bucket: Bucket, path: str, data: bytes) -> ObjectInfo:
        incoming = self._incoming(bucket, path, size=len(data), sha256=None, replace=True)
        try:
            incoming.write(data)
            return incoming.commit()
        finally:
            incoming.close()

    def put_file(self, bucket: Bucket, path: str, source: Path) -> ObjectInfo:
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            incoming = self._incoming(bucket, path, size=size, sha256=None, replace=True)
            try:
                while block := file.read(BLOCK):
                    incoming.write(block)
                return incoming.commit()
            finally:
                incoming.close()

    def download_to(self, bucket: Bucket, path: str, target: Path) -> ObjectInfo:
        info = self.head(bucket, path)
        with self.open_read(bucket, path) as source:
            return download_whole(source, target, info)

    def copy(self, bucket: Bucket, path: str, to_bucket: Bucket, to_path: str) -> ObjectInfo:
        self._path(to_bucket, to_path)
        self._stat(bucket, path)
        return self.put_file(to_bucket, to_path, self._path(bucket, path))

    def list_objects(self, bucket: Bucket, prefix: str = "") -> Iterator[ObjectInfo]:
        root = self._objects / check_bucket(bucket)
        for path in _walk(root, check_folder(prefix)):
            try:
                yield _info(bucket, path, (root / path).stat(), None)
            except FileNotFoundError:
                continue  # deleted while we list

    def delete(self, bucket: Bucket, path: str) -> None:
        target = self._path(bucket, path)
        try:
            target.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        except (IsADirectoryError, PermissionError):
            if target.is_dir():
                return  # a folder is no object
            raise
        fsync_directory(target.parent)
        self._note(bucket, path).unlink(missing_ok=True)
        for folder in target.relative_to(self._objects / bucket).parents[:-1]:
            try:
                (self._objects / bucket / folder).rmdir()
            except OSError:
                break  # not empty

    def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        if not check_folder(prefix):
            raise InvalidInputError("delete_prefix needs a folder; it does not empty a whole bucket.")
        paths = [entry.path for entry in self.list_objects(bucket, prefix)]
        for path in paths:
            self.delete(bucket, path)
        return len(paths)

    def ensure_buckets(self) -> list[str]:
        missing = [bucket for bucket in Bucket if not (self._objects / bucket).is_dir()]
        for bucket in missing:
            make_directories(self._objects / bucket)
        return [str(bucket) for bucket in missing]

    # --- files ------------------------------------------------------------------------------------------------------

    def _path(self, bucket: Bucket, path: str) -> Path:
        return self._objects / check_bucket(bucket) / check_path(path)

    def _note(self, bucket: Bucket, path: str) -> Path:
        # Flat, by the hash of the path: no name of a note can collide with another object's folder.
        name = hashlib.sha256(path.encode()).hexdigest()
        return self._info / bucket / name[:2] / f"{name}.json"

    def _stat(self, bucket: Bucket, path: str) -> os.stat_result:
        target = self._path(bucket, path)
        try:
            status = target.stat()
        except (FileNotFoundError, NotADirectoryError):
            status = None
        if status is None or target.is_dir():
            raise ObjectNotFoundError(f"There is no object {path!r} in {bucket}.")
        return status

    def _known(self, bucket: Bucket, path: str, status: os.stat_result) -> dict[str, Any]:
        """The object's note, if it is about this very file."""
        try:
            note: dict[str, Any] = json.loads(self._note(bucket, path).read_bytes())
        except FileNotFoundError:
            return {}
        return note if (note["size"], note["mtime_ns"]) == (status.st_size, status.st_mtime_ns) else {}

    def _published_by(self, bucket: Bucket, path: str, upload_id: str) -> ObjectInfo | None:
        """The object, if this upload made it."""
        try:
            status = self._stat(bucket, path)
        except ObjectNotFoundError:
            return None
        note = self._known(bucket, path, status)
        return _info(bucket, path, status, note["sha256"]) if note.get("upload_id") == upload_id else None


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Paths of the files below `folder`, in the order of whole paths (as S3 lists them)."""
    try:
        with os.scandir(root / folder) as found:
            # A folder sorts as its name with the slash that follows it in every path below.
            entries = sorted((e.name + "/" if e.is_dir(follow_symlinks=False) else e.name) for e in found)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in entries:
        path = f"{folder}/{name}" if folder else name
        if name.endswith("/"):
            yield from _walk(root, path.removesuffix("/"))
        else:
            yield path


def _info(bucket: Bucket, path: str, status: os.stat_result, sha256: str | None) -> ObjectInfo:
    return ObjectInfo(Bucket(bucket), path, status.st_size, sha256, datetime.fromtimestamp(status.st_mtime, UTC))


def _named(path: str) -> str:
    return f"The file {path.rpartition('/')[2]!r}"
