"""Reading an S3 object as a file: one streaming request, continued where a dropped connection cut it."""

import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from brightrun.errors import UnavailableError
from brightrun.storage.s3_clients import s3_faults

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import BytesStream, GetResult

CHUNK_BYTES = 1024 * 1024
ATTEMPTS = 5  # without a byte in between


class S3Reader(io.RawIOBase):
    """A seekable raw stream. `get(offset, etag)` begins a request for the object from `offset`, of this version."""

    def __init__(self, get: "Callable[[int, str | None], GetResult]", size: int, etag: str | None, what: str) -> None:
        self._get = get
        self._size = size
        self._etag = etag
        self._what = what
        self._position = 0
        self._chunks: Iterator[bytes] | BytesStream | None = None
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        target = max(0, base + offset)
        ahead = target - self._position
        if 0 <= ahead <= len(self._chunk):
            self._chunk = self._chunk[ahead:]
        else:
            self._chunks, self._chunk = None, memoryview(b"")
        self._position = target
        return target

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        into = memoryview(buffer).cast("B")
        if not into or self._position >= self._size:
            return 0
        if not self._chunk:
            self._chunk = memoryview(self._next_chunk())
        count = min(len(into), len(self._chunk))
        into[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        self._position += count
        return count

    def _next_chunk(self) -> bytes:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with s3_faults(self._what):
                    if self._chunks is None:
                        self._chunks = iter(self._get(self._position, self._etag).stream(CHUNK_BYTES))
                    for chunk in self._chunks:
                        if chunk:
                            return bytes(chunk)
            except UnavailableError:
                if attempt == ATTEMPTS:
                    raise
            # Dropped, or ended early: ask for the rest.
            self._chunks = None
        raise UnavailableError(f"{self._what}: S3 ended the answer after {self._position:,} of {self._size:,} bytes.")
