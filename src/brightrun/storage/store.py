"""The one interface to objects' bytes, and the nouns it speaks.

`LocalStore` (a folder, served by our own signed URLs) and `S3Store` implement it; `brightrun.storage.open_store`
chooses. Every method blocks and may touch a disk or a network, so a server calls it through `asyncio.to_thread`.
The exceptions, cheap enough to be called directly: `presign_put`, `presign_get` and `origins` only compute.

Rows keep bucket and path, never a URL. The interface is synchronous on purpose: obstore's asynchronous one can abort
a short-lived interpreter at exit.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Protocol

from brightrun.errors import InvalidInputError
from brightrun.storage.errors import UploadNotFoundError
from brightrun.storage.paths import Bucket
from brightrun.storage.signing import UrlSigner

MAX_PARTS = 10_000  # S3's limit for one multipart upload


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object. size: bytes. sha256: lower-case hex, None where the storage does not know it (an object that
    a client uploaded straight to S3, and every entry of a listing)."""

    bucket: Bucket
    path: str
    size: int
    sha256: str | None
    modified: datetime


@dataclass(frozen=True, slots=True)
class PartRange:
    """Part `number` (from 1) holds `size` bytes of the whole from `offset`."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PartUrl:
    """A signed URL that takes one plain PUT of exactly `size` bytes."""

    number: int
    url: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredPart:
    number: int
    size: int


@dataclass(frozen=True, slots=True)
class Multipart:
    """A multipart upload just started: PUT each part, in any order and in parallel, then POST `complete_url`."""

    upload_id: str
    part_size: int
    size: int
    parts: tuple[PartUrl, ...]
    complete_url: str
    status_url: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MultipartStatus:
    """How far a multipart upload is. `parts` has a fresh URL for each part that is missing; none when `complete`."""

    upload_id: str
    part_size: int
    size: int
    complete: bool
    stored: tuple[StoredPart, ...]
    parts: tuple[PartUrl, ...]
    complete_url: str
    status_url: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class OpenMultipart:
    """A multipart upload that was started and neither completed nor aborted (for the sweeper).

    `upload_id` is good for `abort_multipart`. S3 does not tell an upload's layout, so to find the row that it belongs
    to, compare bucket and path.
    """

    bucket: Bucket
    path: str
    upload_id: str
    started: datetime


@dataclass(frozen=True, slots=True)
class UploadId:
    """Our upload id: it carries the layout, so that parts can be named again without a database.

    `native` is the storage's own id.
    """

    size: int
    part_size: int
    native: str

    def __str__(self) -> str:
        return f"{self.size}.{self.part_size}.{self.native}"

    @classmethod
    def parse(cls, text: str) -> "UploadId":
        size, _, rest = text.partition(".")
        part_size, _, native = rest.partition(".")
        if not (size.isdecimal() and part_size.isdecimal() and int(part_size) > 0 and native):
            raise UploadNotFoundError("There is no such upload: its id is not one of ours.")
        return cls(int(size), int(part_size), native)

    def parts(self) -> list[PartRange]:
        return [
            PartRange(number, offset, min(self.part_size, self.size - offset))
            for number, offset in enumerate(range(0, self.size, self.part_size), start=1)
        ]


def fitting_part_size(size: int, part_size: int) -> int:
    """`part_size`, or the next multiple of 1 MiB that cuts `size` bytes into at most 10,000 parts."""
    if size < 1:
        raise InvalidInputError("A multipart upload needs at least one byte; PUT an empty file in one piece.")
    mib = 1024 * 1024
    least = -(-size // MAX_PARTS)
    return part_size if part_size >= least else -(-least // mib) * mib


class ObjectStore(Protocol):
    """Objects by bucket and path. Unsafe paths raise InvalidInputError, an absent object NotFoundError, a full disk or
    bucket StorageFullError, a storage that does not answer UnavailableError."""

    # --- signed URLs --------------------------------------------------------------------------------------------

    @property
    def signer(self) -> UrlSigner:
        """Signs the URLs that our own server answers."""
        ...

    def presign_put(
        self, bucket: Bucket, path: str, *, size: int, expires_s: int, sha256: str | None = None
    ) -> str | None:
        """URL for one plain PUT of exactly `size` bytes; None where the storage takes no such body (S3 above 5 GB).

        sha256 is enforced while the body streams in locally; S3 cannot, so check it when the object is read.
        """
        ...

    def presign_get(self, bucket: Bucket, path: str, *, expires_s: int, filename: str | None = None) -> str:
        """URL that downloads the object (ranges allowed) as an attachment named `filename` (default: its own name)."""
        ...

    def origins(self) -> tuple[str, ...]:
        """Origins that a page's CSP needs in `connect-src` to reach signed URLs; none when it is the server's own."""
        ...

    # --- multipart uploads --------------------------------------------------------------------------------------

    def start_multipart(
        self, bucket: Bucket, path: str, *, size: int, part_size: int, expires_s: int, sha256: str | None = None
    ) -> Multipart: ...

    def multipart_status(self, bucket: Bucket, path: str, upload_id: str, *, expires_s: int) -> MultipartStatus:
        """What is stored, and fresh URLs for what is not. UploadNotFoundError when aborted or never started."""
        ...

    def complete_multipart(self, bucket: Bucket, path: str, upload_id: str) -> ObjectInfo:
        """Make the object appear, whole. Repeating it is harmless. UploadIncompleteError names missing parts."""
        ...

    def abort_multipart(self, bucket: Bucket, path: str, upload_id: str) -> None:
        """Throw the parts away; an upload that is not there is no error."""
        ...

    def list_multiparts(self, *, started_before: datetime) -> list[OpenMultipart]:
        """Uploads begun before then and still open, for the sweeper to abort."""
        ...

    def sweep_temporary(self, *, untouched_since: datetime) -> int:
        """Remove bodies that were cut by a killed process and not written to since then; how many there were."""
        ...

    # --- objects ------------------------------------------------------------------------------------------------

    def head(self, bucket: Bucket, path: str) -> ObjectInfo: ...

    def open_read(self, bucket: Bucket, path: str) -> BufferedIOBase:
        """A seekable binary stream of the object, in bounded memory; close it."""
        ...

    def read_bytes(self, bucket: Bucket, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """The object, or `length` bytes of it from `offset` (fewer at its end), in memory."""
        ...

    def put_bytes(self, bucket: Bucket, path: str, data: bytes) -> ObjectInfo:
        """Store `data`; an object of this path is replaced, whole, or stays."""
        ...

    def put_file(self, bucket: Bucket, path: str, source: Path) -> ObjectInfo:
        """Store a local file; an object of this path is replaced, whole, or stays."""
        ...

    def download_to(self, bucket: Bucket, path: str, target: Path) -> ObjectInfo:
        """Write the object to a local file, which appears whole or not at all; the answer has its SHA-256."""
        ...

    def copy(self, bucket: Bucket, path: str, to_bucket: Bucket, to_path: str) -> ObjectInfo: ...

    def list_objects(self, bucket: Bucket, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object below the folder `prefix` (empty: the whole bucket), in order of path."""
        ...

    def delete(self, bucket: Bucket, path: str) -> None:
        """Remove the object; an absent one is no error."""
        ...

    def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        """Remove every object below the folder `prefix` (not empty); how many there were."""
        ...

    def ensure_buckets(self) -> list[str]:
        """Create what buckets are missing where this is allowed; the names of those created."""
        ...
