"""The routes behind signed URLs. No session here: the URL is the permission, and says exactly what it permits.

Mount with `app.include_router(router)` and set `app.state.store`; with `app.state.give_way` bodies let pages go first.
Whole objects and parts pass through these routes only with local storage; completing and asking for the status of a
multipart upload do so with S3 too.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response

from brightrun.errors import BrightRunError, TooLargeError
from brightrun.logs import get_logger
from brightrun.storage.errors import ObjectNotFoundError, SizeMismatchError
from brightrun.storage.give_way import GiveWay
from brightrun.storage.incoming import Incoming
from brightrun.storage.local import LocalStore
from brightrun.storage.paths import Bucket, check_bucket, check_path
from brightrun.storage.signing import ROOT, attachment
from brightrun.storage.store import ObjectStore

log = get_logger(__name__)

# Explicit, so that an application-wide limit for ordinary bodies does not cut uploads. The URL's own limit is exact.
router = APIRouter(prefix=ROOT, include_in_schema=False, max_body_size=2**50)

BATCH_BYTES = 1024 * 1024
# What is read and thrown away of a refused body, so that the client gets the answer instead of a broken connection.
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 20.0

# Bodies have their own threads: uploads that wait for a slow disk must not hold up what the server's other threads do.
_disk = ThreadPoolExecutor(max_workers=8, thread_name_prefix="storage")


def _step_back() -> None:
    """This thread lets the event loop go first, so that pages answer while twenty uploads keep every core busy."""
    if sys.platform == "linux":  # Elsewhere a priority is the process's, not the thread's.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


# Hashing and copying take a core each.
_hashing = ThreadPoolExecutor(
    max_workers=os.cpu_count() or 2, thread_name_prefix="storage-hash", initializer=_step_back
)

# So does hashing a whole object once its parts are there; it takes long, and bodies on their way do not wait for it.
_completing = ThreadPoolExecutor(
    max_workers=os.cpu_count() or 2, thread_name_prefix="storage-complete", initializer=_step_back
)

T = TypeVar("T")


async def _on_disk(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_disk, lambda: function(*args, **kwargs))


@router.put("/object/{bucket}/{path:path}")
async def put_object(request: Request, bucket: str, path: str) -> Response:
    """One whole object: exactly the size (and hash) that the URL names."""

    async def store_it() -> Response:
        limits = _limits(request, "PUT", "object", bucket, path)
        size = int(limits["size"])
        _check_announced(request, size)
        place = await _on_disk(
            _local(request).receive_object, Bucket(bucket), path, size=size, sha256=limits.get("sha256")
        )
        try:
            await _stream_in(request, place)
            info = await _on_disk(place.commit)
        finally:
            await _on_disk(place.close)
        thing = {"bucket": str(info.bucket), "path": info.path, "size": info.size, "sha256": info.sha256}
        return _answer("object", thing, etag=info.sha256)

    return await _taking_a_body(request, store_it)


@router.put("/multipart/part/{bucket}/{path:path}")
async def put_part(request: Request, bucket: str, path: str) -> Response:
    """One part of a multipart upload. It is on disk before the answer."""

    async def store_it() -> Response:
        limits = _limits(request, "PUT", "multipart/part", bucket, path)
        _check_announced(request, int(limits["size"]))
        place = await _on_disk(
            _local(request).receive_part, Bucket(bucket), path, limits["upload_id"], int(limits["part"])
        )
        try:
            await _stream_in(request, place)
            part, sha256 = await _on_disk(place.commit)
        finally:
            await _on_disk(place.close)
        return _answer("part", {"number": part.number, "size": part.size, "sha256": sha256}, etag=sha256)

    return await _taking_a_body(request, store_it)


@router.post("/multipart/complete/{bucket}/{path:path}")
async def complete_multipart(request: Request, bucket: str, path: str) -> Response:
    limits = _limits(request, "POST", "multipart/complete", bucket, path)
    complete = partial(_store(request).complete_multipart, Bucket(bucket), path, limits["upload_id"])
    info = await asyncio.get_running_loop().run_in_executor(_completing, complete)
    thing = {"bucket": str(info.bucket), "path": info.path, "size": info.size, "sha256": info.sha256}
    return _answer("object", thing)


@router.get("/multipart/status/{bucket}/{path:path}")
async def multipart_status(request: Request, bucket: str, path: str) -> Response:
    limits = _limits(request, "GET", "multipart/status", bucket, path)
    # A signed URL does not prolong itself: the URLs in the answer end when it does. Whoever may see the dataset gets
    # new ones through the authenticated API.
    left = max(1, int(limits["expires"]) - int(time.time()))
    status = await asyncio.to_thread(
        _store(request).multipart_status, Bucket(bucket), path, limits["upload_id"], expires_s=left
    )
    return _answer("upload", status.as_json())


@router.api_route("/object/{bucket}/{path:path}", methods=["GET", "HEAD"])
async def get_object(request: Request, bucket: str, path: str) -> Response:
    """The object, or a range of it. ETag is its SHA-256."""
    limits = _limits(request, "GET", "object", bucket, path)
    file, info = await asyncio.to_thread(_local(request).local_file, Bucket(bucket), path)
    headers = {
        "content-disposition": attachment(limits.get("filename") or path.rpartition("/")[2]),
        "cache-control": "private, no-store",
        # Users' files come from the origin of our pages: never let a browser run one.
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    if info.sha256 is not None:
        headers["etag"] = f'"{info.sha256}"'
    status = await asyncio.to_thread(file.stat)
    return _BigBlocksFileResponse(file, headers=headers, media_type="application/octet-stream", stat_result=status)


class _BigBlocksFileResponse(FileResponse):
    chunk_size = 512 * 1024


def _store(request: Request) -> ObjectStore:
    return cast("ObjectStore", request.app.state.store)


def _local(request: Request) -> LocalStore:
    store = _store(request)
    if not isinstance(store, LocalStore):
        raise ObjectNotFoundError("This server keeps its objects in S3; objects are not read or written through it.")
    return store


def _limits(request: Request, method: str, route: str, bucket: str, path: str) -> Mapping[str, str]:
    limits = _store(request).signer.check(method, route, bucket, path, request.query_params.multi_items())
    check_bucket(bucket)
    check_path(path)
    return limits


def _check_announced(request: Request, size: int) -> None:
    """Refuse a body by its Content-Length, before any of it is read."""
    header = request.headers.get("content-length")
    if header is None:
        return  # chunked: counted while it streams in
    announced = int(header)
    details = {"expected": size, "content_length": announced}
    if announced > size:
        raise TooLargeError(
            f"The body has {announced:,} bytes; this URL takes exactly {size:,}. Nothing of it was kept.",
            details=details,
        )
    if announced < size:
        raise SizeMismatchError(
            f"The body has {announced:,} bytes; this URL takes exactly {size:,}. Nothing of it was kept.",
            details=details,
        )


async def _stream_in(request: Request, place: Incoming) -> None:
    """Hash and write one batch in a thread while the next one arrives; at most two batches are in memory."""
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[None] | None = None
    batch: list[bytes] = []
    held = 0
    give_way = cast("GiveWay | None", getattr(request.app.state, "give_way", None))
    try:
        async for chunk in request.stream():
            batch.append(chunk)
            held += len(chunk)
            if held >= BATCH_BYTES:
                if writing is not None:
                    await writing
                writing = loop.run_in_executor(_hashing, place.write, b"".join(batch))
                batch, held = [], 0
                if give_way is not None:
                    await give_way.pause()
        if writing is not None:
            await writing
        writing = None
        if batch:
            await loop.run_in_executor(_hashing, place.write, b"".join(batch))
    finally:
        # The file must not be closed under a write, whatever ended the stream.
        if writing is not None and not writing.done():
            await asyncio.wait([writing])


async def _taking_a_body(request: Request, work: Callable[[], Any]) -> Response:
    """Run a route that takes a body: a client that leaves gets nothing, a refused one gets its answer."""
    try:
        return cast("Response", await work())
    except ClientDisconnect:
        log.info("upload_cut", path=request.url.path)
        return Response(status_code=400)  # nobody is left to read it
    except BrightRunError:
        await _drain(request)
        raise


async def _drain(request: Request) -> None:
    """Read a bounded rest of a refused body: closing a connection with unread data can destroy the answer in it."""
    seen = 0
    try:
        async with asyncio.timeout(DRAIN_S):
            async for chunk in request.stream():
                seen += len(chunk)
                if seen > DRAIN_BYTES:
                    return
    except (ClientDisconnect, TimeoutError, RuntimeError):
        return  # gone, too slow, or read to its end before the refusal (RuntimeError: the stream was consumed)


def _answer(name: str, thing: Mapping[str, Any], *, etag: str | None = None) -> JSONResponse:
    headers = {"etag": f'"{etag}"'} if etag else None
    return JSONResponse({"success": True, "data": {name: thing}}, headers=headers)
