"""The package of a model: one zip of its stored files and of what is written for the reader, sent as it is read."""

import asyncio
import hashlib
import json
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from brightrun.errors import UnavailableError
from brightrun.models.readme import readme
from brightrun.models.tables import ModelArtifact
from brightrun.models.zip_layout import Member, ZipLayout
from brightrun.storage import Bucket, ObjectStore
from brightrun.storage.errors import ObjectNotFoundError
from brightrun.storage.paths import safe_name

_BLOCK = 1024 * 1024
_FIRST = ("adapter_config.json", "adapter_model.safetensors")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

Source = str | bytes
"""Where a member's bytes are: a path in the model's bucket, or here."""


@dataclass(frozen=True)
class Package:
    """A model as one file. etag: changes with the content."""

    bucket: Bucket
    layout: ZipLayout[Source]
    file_name: str
    etag: str


def package_of(model: ModelArtifact) -> Package:
    """Lay the package out. The same row gives the same bytes."""
    stored = sorted(model.files, key=lambda file: (file["name"] not in _FIRST, file["name"]))
    summary = json.dumps(summary_of(model), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    members = [
        _written("README.md", readme(model)),
        *(Member[Source](f["name"], f["size"], f["crc32"], f"{model.storage_path}/{f['name']}") for f in stored),
        _written("training_summary.json", summary),
    ]
    sums = {file["name"]: file["sha256"] for file in stored}
    for member in members:
        if isinstance(member.source, bytes):
            sums[member.name] = hashlib.sha256(member.source).hexdigest()
    listing = "".join(f"{sums[member.name]}  {member.name}\n" for member in members)
    members.append(_written("SHA256SUMS", listing))
    return Package(
        bucket=Bucket(model.storage_bucket),
        layout=ZipLayout(members, model.created_at),
        file_name=safe_name(f"{model.name} {model.version}.zip"),
        etag='"' + hashlib.sha256(listing.encode()).hexdigest() + '"',
    )


def summary_of(model: ModelArtifact) -> dict[str, Any]:
    """What training_summary.json says."""
    return {
        "model": {
            "id": str(model.id),
            "name": model.name,
            "version": model.version,
            "parent_model_id": str(model.parent_model_id) if model.parent_model_id else None,
            "job_id": str(model.job_id),
            "dataset_id": str(model.dataset_id),
        },
        "base_model": model.base_model,
        "training": model.training_summary,
        "quality": model.quality_metrics,
        "configuration": model.configuration,
    }


def _written(name: str, text: str) -> Member[Source]:
    data = text.encode("utf-8", "backslashreplace")
    return Member(name, len(data), zlib.crc32(data), data)


def check_stored(store: ObjectStore, model: ModelArtifact) -> None:
    """Blocking. Raises UnavailableError naming what is not there as it was stored: before the first byte is sent."""
    wrong = []
    for file in model.files:
        try:
            info = store.head(Bucket(model.storage_bucket), f"{model.storage_path}/{file['name']}")
        except ObjectNotFoundError:
            wrong.append(file["name"])
            continue
        if info.size != file["size"] or info.sha256 not in {None, file["sha256"]}:
            wrong.append(file["name"])
    if wrong:
        raise UnavailableError(
            f"Files of this model are missing or not as they were stored: {', '.join(wrong)}. Restore them from a "
            "backup.",
            code="model_files_damaged",
            details={"files": wrong},
        )


def answer(store: ObjectStore, package: Package, headers: Mapping[str, str]) -> Response:
    """The HTTP answer, whole or from where an earlier download was cut (`Range`), in bounded memory."""
    size = package.layout.size
    start, stop, status = 0, size, 200
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    if asked and (asked[1] or asked[2]) and headers.get("if-range", package.etag) == package.etag:
        start, stop = _bounds(asked[1], asked[2], size)
        if start >= stop:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        status = 206
    name = package.file_name
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
    answered = {
        "Content-Length": str(stop - start),
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}",
        "Accept-Ranges": "bytes",
        "ETag": package.etag,
        "Cache-Control": "private, no-cache",
    }
    if status == 206:
        answered["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return StreamingResponse(
        stream(store, package, start, stop), status_code=status, headers=answered, media_type="application/zip"
    )


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


async def stream(store: ObjectStore, package: Package, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
    """The archive's bytes in blocks of at most 1 MiB; one block is in memory at a time."""
    for stretch in package.layout.stretches(start, stop):
        if isinstance(stretch.source, bytes):
            yield stretch.source[stretch.offset : stretch.offset + stretch.length]
            continue
        file = await asyncio.to_thread(_open_at, store, package.bucket, stretch.source, stretch.offset)
        try:
            left = stretch.length
            while left:
                block = await asyncio.to_thread(file.read, min(_BLOCK, left))
                if not block:
                    # The answer ends short of its Content-Length, so that the client knows it is not whole.
                    raise UnavailableError(f"The stored file {stretch.source!r} ended {left:,} bytes early.")
                left -= len(block)
                yield block
        finally:
            await asyncio.to_thread(file.close)


def _open_at(store: ObjectStore, bucket: Bucket, path: str, offset: int) -> BufferedIOBase:
    file = store.open_read(bucket, path)
    file.seek(offset)
    return file
