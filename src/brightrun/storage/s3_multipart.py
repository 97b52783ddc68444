"""Multipart uploads in S3: parts go to S3 by presigned URL; which are stored, S3 knows."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from brightrun.storage.errors import UploadIncompleteError, UploadNotFoundError
from brightrun.storage.paths import Bucket
from brightrun.storage.s3_clients import S3Clients, s3_faults
from brightrun.storage.signing import UrlSigner
from brightrun.storage.store import Multipart, MultipartStatus, PartUrl, StoredPart, UploadId


class S3Multipart:
    """Control of multipart uploads. An upload is addressed by S3 bucket, key and our upload id."""

    def __init__(self, clients: S3Clients, signer: UrlSigner) -> None:
        self._clients = clients
        self._signer = signer

    def start(
        self, bucket: Bucket, path: str, s3_bucket: str, key: str, *, size: int, part_size: int, expires_s: int
    ) -> Multipart:
        with s3_faults(f"The upload of {path!r}"):
            native = self._clients.control.create_multipart_upload(Bucket=s3_bucket, Key=key)["UploadId"]
        upload = UploadId(size, part_size, native)
        status = self._status(bucket, path, s3_bucket, key, upload, stored=[], complete=False, expires_s=expires_s)
        return Multipart(status.upload_id, part_size, size, status.parts, status.complete_url, status.status_url)

    def status(
        self,
        bucket: Bucket,
        path: str,
        s3_bucket: str,
        key: str,
        upload_id: str,
        *,
        stored_size: Callable[[], int | None],
        expires_s: int,
    ) -> MultipartStatus:
        """stored_size: bytes of the object if it is there, to tell a completed upload from an unknown one."""
        upload = UploadId.parse(upload_id)
        try:
            stored, complete = self._whole_parts(path, s3_bucket, key, upload), False
        except UploadNotFoundError:
            if stored_size() != upload.size:
                raise
            stored, complete = {part.number: "" for part in upload.parts()}, True
        sizes = {part.number: part.size for part in upload.parts()}
        parts = [StoredPart(number, sizes[number]) for number in sorted(stored)]
        return self._status(bucket, path, s3_bucket, key, upload, stored=parts, complete=complete, expires_s=expires_s)

    def complete(
        self, path: str, s3_bucket: str, key: str, upload_id: str, *, stored_size: Callable[[], int | None]
    ) -> None:
        upload = UploadId.parse(upload_id)
        try:
            stored = self._whole_parts(path, s3_bucket, key, upload)
            missing = [part.number for part in upload.parts() if part.number not in stored]
            if missing:
                shown = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
                raise UploadIncompleteError(
                    f"The upload of {path.rpartition('/')[2]!r} is not complete: {len(missing)} of "
                    f"{len(upload.parts())} parts are missing ({shown}). Send them and complete it again.",
                    details={"missing": missing},
                )
            with s3_faults(f"The upload of {path!r}"):
                self._clients.control.complete_multipart_upload(
                    Bucket=s3_bucket,
                    Key=key,
                    UploadId=upload.native,
                    MultipartUpload={"Parts": [{"PartNumber": n, "ETag": stored[n]} for n in sorted(stored)]},
                )
        except UploadNotFoundError:
            # Completed before, and its answer was lost.
            if stored_size() != upload.size:
                raise

    def abort(self, path: str, s3_bucket: str, key: str, upload_id: str) -> None:
        upload = UploadId.parse(upload_id)
        try:
            with s3_faults(f"The upload of {path!r}"):
                self._clients.control.abort_multipart_upload(Bucket=s3_bucket, Key=key, UploadId=upload.native)
        except UploadNotFoundError:
            return

    def open_uploads(self, s3_bucket: str) -> Iterator[tuple[str, str, datetime]]:
        """Key, upload id (good to abort, its layout is unknown) and start of each open upload of an S3 bucket."""
        with s3_faults(f"The S3 bucket {s3_bucket!r}"):
            for page in self._clients.control.get_paginator("list_multipart_uploads").paginate(Bucket=s3_bucket):
                for found in page.get("Uploads", []):
                    yield found["Key"], str(UploadId(1, 1, found["UploadId"])), found["Initiated"]

    def _whole_parts(self, path: str, s3_bucket: str, key: str, upload: UploadId) -> dict[int, str]:
        """ETags of the stored parts by number. A part of another size than asked for counts as missing."""
        sizes = {part.number: part.size for part in upload.parts()}
        with s3_faults(f"The upload of {path!r}"):
            pages = self._clients.control.get_paginator("list_parts").paginate(
                Bucket=s3_bucket, Key=key, UploadId=upload.native
            )
            parts: list[dict[str, Any]] = [part for page in pages for part in page.get("Parts", [])]
        return {p["PartNumber"]: p["ETag"] for p in parts if sizes.get(p["PartNumber"]) == p["Size"]}

    def _status(
        self,
        bucket: Bucket,
        path: str,
        s3_bucket: str,
        key: str,
        upload: UploadId,
        *,
        stored: list[StoredPart],
        complete: bool,
        expires_s: int,
    ) -> MultipartStatus:
        have = {part.number for part in stored}

        def part_url(number: int, size: int) -> str:
            params = {
                "Bucket": s3_bucket,
                "Key": key,
                "UploadId": upload.native,
                "PartNumber": number,
                "ContentLength": size,
            }
            with s3_faults("Signing a URL"):
                return str(
                    self._clients.public.generate_presigned_url("upload_part", Params=params, ExpiresIn=expires_s)
                )

        def ours(method: str, route: str) -> str:
            return self._signer.url(method, route, bucket, path, expires_s=expires_s, upload_id=str(upload))

        return MultipartStatus(
            upload_id=str(upload),
            part_size=upload.part_size,
            size=upload.size,
            complete=complete,
            stored=tuple(stored),
            parts=tuple(
                PartUrl(part.number, part_url(part.number, part.size), part.size)
                for part in upload.parts()
                if part.number not in have
            ),
            complete_url=ours("POST", "multipart/complete"),
            status_url=ours("GET", "multipart/status"),
        )
