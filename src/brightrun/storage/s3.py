"""Object storage in S3 and what speaks like it."""

import functools
import hashlib
import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from brightrun.errors import ConflictError, InvalidInputError
from brightrun.settings import Settings
from brightrun.storage.disk import sha256_of
from brightrun.storage.errors import ObjectNotFoundError
from brightrun.storage.paths import Bucket, check_bucket, check_folder, check_path
from brightrun.storage.s3_clients import S3Clients, s3_faults
from brightrun.storage.s3_multipart import S3Multipart
from brightrun.storage.s3_reader import CHUNK_BYTES, S3Reader
from brightrun.storage.signing import UrlSigner, attachment
from brightrun.storage.store import Multipart, MultipartStatus, ObjectInfo, OpenMultipart, fitting_part_size
from brightrun.storage.transfer import download_whole

if TYPE_CHECKING:
    import obstore

MAX_PUT_BYTES = 5 * 1024**3  # S3's limit for one PUT and for one server-side copy
UPLOAD_CHUNK_BYTES = 8 * 1024**2
CORS_RULE_ID = "brightrun"


class S3Store:
    """The `ObjectStore` of S3: one S3 bucket for all of ours (our bucket becomes the first part of the key), or one
    S3 bucket each. Signed URLs are S3's own; only completion and status of a multipart upload are ours."""

    def __init__(self, settings: Settings, signer: UrlSigner) -> None:
        self._clients = S3Clients(settings)
        self._signer = signer
        self._one_bucket = settings.s3_bucket
        self._bucket_prefix = settings.s3_bucket_prefix
        self._region = settings.s3_region
        self._multipart = S3Multipart(self._clients, signer)

    @property
    def signer(self) -> UrlSigner:
        return self._signer

    # --- signed URLs --------------------------------------------------------------------------------------------

    def presign_put(
        self, bucket: Bucket, path: str, *, size: int, expires_s: int, sha256: str | None = None
    ) -> str | None:
        # sha256 cannot be enforced: the client of a plain PUT does not send the header that S3 would compare.
        del sha256
        if size > MAX_PUT_BYTES:
            return None
        s3_bucket, key = self._address(bucket, path)
        # A signed Content-Length: S3 refuses a body of another size (moto and some others do not look).
        return self._sign("put_object", expires_s, Bucket=s3_bucket, Key=key, ContentLength=size)

    def presign_get(self, bucket: Bucket, path: str, *, expires_s: int, filename: str | None = None) -> str:
        s3_bucket, key = self._address(bucket, path)
        disposition = attachment(filename or path.rpartition("/")[2])
        return self._sign("get_object", expires_s, Bucket=s3_bucket, Key=key, ResponseContentDisposition=disposition)

    def _sign(self, operation: str, expires_s: int, **params: Any) -> str:
        with s3_faults("Signing a URL"):
            return str(self._clients.public.generate_presigned_url(operation, Params=params, ExpiresIn=expires_s))

    def origins(self) -> tuple[str, ...]:
        urls = [urlsplit(self.presign_get(bucket, "origin", expires_s=60)) for bucket in Bucket]
        return tuple(dict.fromkeys(f"{url.scheme}://{url.netloc}" for url in urls))

    # --- multipart uploads --------------------------------------------------------------------------------------

    def start_multipart(
        self, bucket: Bucket, path: str, *, size: int, part_size: int, expires_s: int, sha256: str | None = None
    ) -> Multipart:
        del sha256  # see presign_put
        return self._multipart.start(
            bucket,
            path,
            *self._address(bucket, path),
            size=size,
            part_size=fitting_part_size(size, part_size),
            expires_s=expires_s,
        )

    def multipart_status(self, bucket: Bucket, path: str, upload_id: str, *, expires_s: int) -> MultipartStatus:
        return self._multipart.status(
            bucket,
            path,
            *self._address(bucket, path),
            upload_id,
            stored_size=functools.partial(self._stored_size, bucket, path),
            expires_s=expires_s,
        )

    def complete_multipart(self, bucket: Bucket, path: str, upload_id: str) -> ObjectInfo:
        self._multipart.complete(
            path,
            *self._address(bucket, path),
            upload_id,
            stored_size=functools.partial(self._stored_size, bucket, path),
        )
        return self.head(bucket, path)

    def abort_multipart(self, bucket: Bucket, path: str, upload_id: str) -> None:
        self._multipart.abort(path, *self._address(bucket, path), upload_id)

    def list_multiparts(self, *, started_before: datetime) -> list[OpenMultipart]:
        found = []
        for s3_bucket in self._s3_buckets():
            for key, upload_id, started in self._multipart.open_uploads(s3_bucket):
                bucket, path = self._from_key(s3_bucket, key)
                if bucket is not None and started < started_before:
                    found.append(OpenMultipart(bucket, path, upload_id, started))
        return found

    def sweep_temporary(self, *, untouched_since: datetime) -> int:
        del untouched_since
        return 0  # S3 keeps nothing of a PUT that was cut

    def _stored_size(self, bucket: Bucket, path: str) -> int | None:
        try:
            return self.head(bucket, path).size
        except ObjectNotFoundError:
            return None

    # --- objects --------------------------------------------------------------------------------------------------

    def head(self, bucket: Bucket, path: str) -> ObjectInfo:
        import obstore

        store, key = self._object(bucket, path)
        with s3_faults(_named(bucket, path)):
            # `head` of obstore leaves out the attributes, where our own uploads keep their hash.
            found = obstore.get(store, key, options={"head": True})
            meta = found.meta
            return ObjectInfo(Bucket(bucket), path, meta["size"], found.attributes.get("sha256"), meta["last_modified"])

    def open_read(self, bucket: Bucket, path: str) -> io.BufferedIOBase:
        import obstore

        store, key = self._object(bucket, path)
        what = _named(bucket, path)
        with s3_faults(what):
            meta = obstore.head(store, key)

        def get(offset: int, etag: str | None) -> "obstore.GetResult":
            options: Any = {"range": {"offset": offset}} if offset else {}
            if etag is not None:
                options["if_match"] = etag
            try:
                return obstore.get(store, key, options=options)
            except obstore.exceptions.PreconditionError as error:
                raise ConflictError(f"{what} was replaced while it was read. Start again.") from error

        return io.BufferedReader(S3Reader(get, meta["size"], meta["e_tag"], what), buffer_size=CHUNK_BYTES)

    def read_bytes(self, bucket: Bucket, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        with self.open_read(bucket, path) as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def put_bytes(self, bucket: Bucket, path: str, data: bytes) -> ObjectInfo:
        return self._put(bucket, path, data, len(data), hashlib.sha256(data).hexdigest())

    def put_file(self, bucket: Bucket, path: str, source: Path) -> ObjectInfo:
        sha256 = sha256_of(source)
        return self._put(bucket, path, source, source.stat().st_size, sha256)

    def _put(self, bucket: Bucket, path: str, source: bytes | Path, size: int, sha256: str) -> ObjectInfo:
        import obstore

        store, key = self._object(bucket, path)
        with s3_faults(_named(bucket, path)):
            obstore.put(
                store,
                key,
                source,
                attributes={"sha256": sha256},
                use_multipart=size > UPLOAD_CHUNK_BYTES,
                chunk_size=fitting_part_size(max(1, size), UPLOAD_CHUNK_BYTES),
                max_concurrency=4,
            )
        info = self.head(bucket, path)
        if info.size != size:
            self.delete(bucket, path)
            raise ConflictError(
                f"{_named(bucket, path)} changed while it was stored: {size:,} bytes at the start, {info.size:,} were "
                "sent. Nothing of it was kept; try again."
            )
        return info

    def download_to(self, bucket: Bucket, path: str, target: Path) -> ObjectInfo:
        info = self.head(bucket, path)
        with self.open_read(bucket, path) as source:
            return download_whole(source, target, info)

    def copy(self, bucket: Bucket, path: str, to_bucket: Bucket, to_path: str) -> ObjectInfo:
        s3_bucket, key = self._address(to_bucket, to_path)
        info = self.head(bucket, path)
        if info.size > MAX_PUT_BYTES:
            import obstore

            store = self._clients.objects(s3_bucket)
            attributes = {"sha256": info.sha256} if info.sha256 else None
            with self.open_read(bucket, path) as source, s3_faults(_named(to_bucket, to_path)):
                chunk_size = fitting_part_size(info.size, UPLOAD_CHUNK_BYTES)
                obstore.put(store, key, source, attributes=attributes, chunk_size=chunk_size, max_concurrency=4)
        else:
            from_s3_bucket, from_key = self._address(bucket, path)
            with s3_faults(_named(to_bucket, to_path)):
                self._clients.control.copy_object(
                    Bucket=s3_bucket, Key=key, CopySource={"Bucket": from_s3_bucket, "Key": from_key}
                )
        return self.head(to_bucket, to_path)

    def list_objects(self, bucket: Bucket, prefix: str = "") -> Iterator[ObjectInfo]:
        import obstore

        s3_bucket, root = self._root(bucket)
        key = root + check_folder(prefix)
        with s3_faults(f"The listing of {bucket}"):
            for batch in obstore.list(self._clients.objects(s3_bucket), key.rstrip("/") or None, chunk_size=1000):
                for meta in batch:
                    path = meta["path"].removeprefix(root)
                    yield ObjectInfo(Bucket(bucket), path, meta["size"], None, meta["last_modified"])

    def delete(self, bucket: Bucket, path: str) -> None:
        import obstore

        store, key = self._object(bucket, path)
        try:
            with s3_faults(_named(bucket, path)):
                obstore.delete(store, key)
        except ObjectNotFoundError:
            return  # some servers say so; AWS does not

    def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        if not check_folder(prefix):
            raise InvalidInputError("delete_prefix needs a folder; it does not empty a whole bucket.")
        paths = [entry.path for entry in self.list_objects(bucket, prefix)]
        for path in paths:
            self.delete(bucket, path)
        return len(paths)

    # --- buckets ----------------------------------------------------------------------------------------------------

    def ensure_buckets(self) -> list[str]:
        from botocore.exceptions import ClientError

        created = []
        for name in self._s3_buckets():
            with s3_faults(f"The S3 bucket {name!r}"):
                try:
                    self._clients.control.head_bucket(Bucket=name)
                except ClientError as error:
                    if error.response.get("Error", {}).get("Code") not in {"404", "NoSuchBucket", "NotFound"}:
                        raise
                    # us-east-1 is S3's default and must not be named.
                    where: dict[str, Any] = (
                        {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
                        if self._region != "us-east-1"
                        else {}
                    )
                    try:
                        self._clients.control.create_bucket(Bucket=name, **where)
                    except self._clients.control.exceptions.BucketAlreadyOwnedByYou:
                        continue  # another process of ours was first
                    created.append(name)
        return created

    def cors_rule(self, origin: str) -> dict[str, Any]:
        """The CORS rule that pages served from `origin` need to upload and download."""
        return {
            "ID": CORS_RULE_ID,
            "AllowedOrigins": [origin],
            "AllowedMethods": ["GET", "HEAD", "PUT"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3600,
        }

    def set_cors(self, origin: str) -> list[str]:
        """Put the rule on every S3 bucket of ours, leaving others' rules; the buckets' names."""
        from botocore.exceptions import ClientError

        names = self._s3_buckets()
        for name in names:
            with s3_faults(f"The CORS rules of the S3 bucket {name!r}"):
                try:
                    rules = self._clients.control.get_bucket_cors(Bucket=name)["CORSRules"]
                except ClientError as error:
                    if error.response.get("Error", {}).get("Code") != "NoSuchCORSConfiguration":
                        raise
                    rules = []
                others = [rule for rule in rules if rule.get("ID") != CORS_RULE_ID]
                self._clients.control.put_bucket_cors(
                    Bucket=name, CORSConfiguration={"CORSRules": [*others, self.cors_rule(origin)]}
                )
        return names

    def _s3_buckets(self) -> list[str]:
        return [self._one_bucket] if self._one_bucket else [self._bucket_prefix + bucket for bucket in Bucket]

    def _root(self, bucket: Bucket) -> tuple[str, str]:
        """S3 bucket, and the beginning of the key that all of `bucket` shares."""
        check_bucket(bucket)
        return (self._one_bucket, f"{bucket}/") if self._one_bucket else (self._bucket_prefix + bucket, "")

    def _address(self, bucket: Bucket, path: str) -> tuple[str, str]:
        """S3 bucket and key."""
        s3_bucket, root = self._root(bucket)
        return s3_bucket, root + check_path(path)

    def _from_key(self, s3_bucket: str, key: str) -> tuple[Bucket | None, str]:
        """The inverse of `_address`; None for what is not ours."""
        name, path = key.split("/", 1) if self._one_bucket and "/" in key else (s3_bucket, key)
        if not self._one_bucket:
            name = name.removeprefix(self._bucket_prefix)
        return (Bucket(name), path) if name in set(Bucket) else (None, key)

    def _object(self, bucket: Bucket, path: str) -> "tuple[obstore.store.S3Store, str]":
        s3_bucket, key = self._address(bucket, path)
        return self._clients.objects(s3_bucket), key


def _named(bucket: Bucket, path: str) -> str:
    return f"The object {path!r} in {bucket}"
