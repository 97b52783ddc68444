"""The client's side of an upload, for the command line and the SDK: parts in parallel, dropped connections retried,
and a later start goes on where an earlier one was cut. Local storage and S3 alike; knows nothing of the server's side.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from brightrun.storage.errors import UploadFailedError

READ_BYTES = 256 * 1024
PATIENCE_S = 120.0  # without a body accepted, before giving up
MIN_ATTEMPTS = 5
MAX_BACKOFF_S = 10.0
RETRIED = {408, 425, 429, 500, 502, 503, 504}
# Completion hashes the whole file on the server before it answers.
TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
COMPLETE_TIMEOUT = httpx2.Timeout(1800.0, connect=10.0)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where to send a file: what `POST /api/datasets` answers. `multipart` is used when it is there, else `url`."""

    url: str | None
    multipart: Mapping[str, Any] | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "UploadTarget":
        """From the `data` of the answer, with `uploadUrl` and `multipart`."""
        return cls(data.get("uploadUrl"), data.get("multipart"))


@dataclass(frozen=True, slots=True)
class UploadResult:
    """size: bytes of the file. sent: bytes sent now, the rest was stored before. sha256: as the storage computed it,
    None where it does not (S3)."""

    size: int
    sent: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    url: str
    offset: int
    size: int


def upload_file(
    path: Path,
    target: UploadTarget,
    *,
    progress: Progress | None = None,
    parallel: int = 4,
    http: httpx2.Client | None = None,
    renew: Callable[[], UploadTarget] | None = None,
    cancel: threading.Event | None = None,
    patience_s: float = PATIENCE_S,
) -> UploadResult:
    """Upload `path`; blocks until the storage has it whole.

    progress: called with (bytes stored or on their way, bytes in all), from several threads, one at a time; the first
    number falls when a part must be sent again. renew: gets a fresh target (through the authenticated API) when URLs
    have expired. cancel: set it to stop; what is stored stays, and a later call resumes. patience_s: gives up after
    so long without a part accepted. UploadFailedError says why, with the server's own `code` where it gave one.
    """
    own = http is None
    client = http or httpx2.Client(timeout=TIMEOUT)
    try:
        return _Upload(path, target, client, progress, parallel, renew, cancel or threading.Event(), patience_s).run()
    finally:
        if own:
            client.close()


class _Upload:
    def __init__(
        self,
        path: Path,
        target: UploadTarget,
        http: httpx2.Client,
        progress: Progress | None,
        parallel: int,
        renew: Callable[[], UploadTarget] | None,
        cancel: threading.Event,
        patience_s: float,
    ) -> None:
        self._path = path
        self._target = target
        self._http = http
        self._progress = progress
        self._parallel = max(1, parallel)
        self._renew = renew
        self._stop = cancel
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._done = 0
        self._sent = 0
        self._last_accepted = time.monotonic()
        status = path.stat()
        self._size, self._modified = status.st_size, status.st_mtime_ns

    def run(self) -> UploadResult:
        self._report(0)
        while True:
            try:
                sha256 = self._send_parts() if self._target.multipart is not None else self._send_whole()
            except _ExpiredError as expired:
                if self._renew is None or self._out_of_patience():
                    raise UploadFailedError(
                        f"The upload of {self._path.name} needs new URLs: {expired} What was stored stays stored; "
                        "start the upload again to go on.",
                        code="url_expired",
                    ) from None
                self._target = self._renew()
                with self._lock:
                    self._done = 0
                continue
            return UploadResult(self._size, self._sent, sha256)

    # --- in parts --------------------------------------------------------------------------------------------

    def _send_parts(self) -> str | None:
        multipart = self._target.multipart
        assert multipart is not None
        status = self._json(lambda: self._http.get(multipart["status_url"], timeout=TIMEOUT))["upload"]
        if status["size"] != self._size:
            raise UploadFailedError(
                f"{self._path} has {self._size:,} bytes, and the upload was started for {status['size']:,}: it is "
                "another file, or it changed. Start a new upload.",
                code="size_mismatch",
            )
        if status["complete"]:
            self._report(self._size)
        else:
            stored = sum(part["size"] for part in status["stored"])
            self._report(stored)
            part_size = status["part_size"]
            missing = [
                _Part(part["number"], part["url"], (part["number"] - 1) * part_size, part["size"])
                for part in status["parts"]
            ]
            self._in_parallel(missing)
            self._check_unchanged()
        answer = self._json(lambda: self._http.post(multipart["complete_url"], timeout=COMPLETE_TIMEOUT))
        sha256: str | None = answer["object"]["sha256"]
        return sha256

    def _in_parallel(self, parts: list[_Part]) -> None:
        failed = threading.Event()
        waiting = iter(parts)
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="upload") as pool:
            running: set[Future[str | None]] = set()
            first_error: BaseException | None = None
            while True:
                while first_error is None and len(running) < self._parallel:
                    part = next(waiting, None)
                    if part is None:
                        break
                    running.add(pool.submit(self._put, part, failed))
                if not running:
                    break
                try:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                except BaseException:
                    failed.set()  # Ctrl-C: leaving the pool waits for its threads, which must not go on
                    raise
                for future in finished:
                    error = future.exception()
                    if error is not None and first_error is None:
                        first_error = error
                        failed.set()
        if first_error is not None:
            raise first_error

    # --- in one piece ----------------------------------------------------------------------------------------

    def _send_whole(self) -> str | None:
        if self._target.url is None:
            raise UploadFailedError(f"The server gave no URL to upload {self._path.name} to.")
        answer = self._put(_Part(1, self._target.url, 0, self._size), threading.Event())
        self._check_unchanged()
        return answer

    # --- one body --------------------------------------------------------------------------------------------

    def _put(self, part: _Part, failed: threading.Event) -> str | None:
        """PUT one body, again and again while the fault is one that passes. Its SHA-256 where the answer names it."""
        counted = 0

        def body() -> Iterator[bytes]:
            nonlocal counted
            with self._path.open("rb") as file:
                file.seek(part.offset)
                left = part.size
                while left:
                    if failed.is_set() or self._stop.is_set():
                        raise _StoppedError
                    block = file.read(min(READ_BYTES, left))
                    if not block:
                        raise UploadFailedError(f"{self._path} became shorter while it was uploaded.")
                    yield block
                    left -= len(block)
                    counted += len(block)
                    self._report(len(block))

        def send() -> httpx2.Response:
            nonlocal counted
            self._report(-counted)
            counted = 0
            headers = {"content-length": str(part.size), "content-type": "application/octet-stream"}
            return self._http.put(part.url, content=body(), headers=headers, timeout=TIMEOUT)

        response = self._persistently(send, failed)
        with self._lock:
            self._sent += part.size
            self._last_accepted = time.monotonic()
        self._report(part.size - counted)
        if not response.headers.get("content-type", "").startswith("application/json"):
            return None  # S3 answers nothing
        data: dict[str, Any] = response.json()["data"]
        sha256: str | None = next(iter(data.values()))["sha256"]
        return sha256

    def _json(self, send: Callable[[], httpx2.Response]) -> dict[str, Any]:
        data: dict[str, Any] = self._persistently(send, threading.Event()).json()["data"]
        return data

    def _persistently(self, send: Callable[[], httpx2.Response], failed: threading.Event) -> httpx2.Response:
        delay = 0.2
        attempts = 0
        first_attempt = time.monotonic()
        while True:
            attempts += 1
            try:
                response = send()
            except httpx2.TransportError as error:
                reason = f"the connection failed ({type(error).__name__}: {error})"
            except _StoppedError:
                raise self._stopped() from None
            else:
                if response.is_success:
                    return response
                reason = _reason(response)
                if response.status_code == 403 and _is_expired(response):
                    raise _ExpiredError(reason)
                if response.status_code not in RETRIED:
                    raise UploadFailedError(
                        f"{self._path.name} could not be uploaded: {reason}",
                        code=_code(response),
                        status=response.status_code,
                    )
            # A slow line may need longer than our patience for one body, so a few attempts are made in any case.
            if attempts >= MIN_ATTEMPTS and self._out_of_patience(since=first_attempt):
                raise UploadFailedError(
                    f"The upload of {self._path.name} was given up after {self._patience_s:.0f} s without progress: "
                    f"{reason}. What was stored stays stored; start it again to go on."
                )
            # Jitter, so that parallel parts do not all come back in the same instant.
            pause = delay * random.uniform(0.5, 1.0)  # noqa: S311
            delay = min(delay * 2, MAX_BACKOFF_S)
            if self._stop.wait(pause) or failed.is_set():
                raise self._stopped()

    def _stopped(self) -> UploadFailedError:
        return UploadFailedError(
            f"The upload of {self._path.name} was stopped. What was stored stays stored; start it again to go on.",
            code="upload_stopped",
        )

    # --- bookkeeping -----------------------------------------------------------------------------------------

    def _report(self, more: int) -> None:
        with self._lock:
            self._done += more
            if self._progress is not None:
                self._progress(self._done, self._size)

    def _out_of_patience(self, *, since: float = 0.0) -> bool:
        with self._lock:
            return time.monotonic() - max(since, self._last_accepted) > self._patience_s

    def _check_unchanged(self) -> None:
        status = self._path.stat()
        if (status.st_size, status.st_mtime_ns) != (self._size, self._modified):
            raise UploadFailedError(
                f"{self._path} changed while it was uploaded, so what was sent is not one file. Start a new upload.",
                code="file_changed",
            )


class _ExpiredError(Exception):
    """The URLs are over; new ones can be asked for."""


class _StoppedError(Exception):
    """Another part failed, or the caller cancelled."""


def _is_expired(response: httpx2.Response) -> bool:
    # S3 answers XML: AccessDenied with the message "Request has expired".
    return _code(response) == "url_expired" or b"expired" in response.content[:2000].lower()


def _code(response: httpx2.Response) -> str | None:
    try:
        code: str | None = response.json().get("code")
    except (ValueError, AttributeError):
        return None
    return code


def _reason(response: httpx2.Response) -> str:
    """What the server said, in one line; never the URL, which carries a signature."""
    try:
        sentence = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        sentence = " ".join(response.text[:300].split())
    return f"{sentence or response.reason_phrase} (HTTP {response.status_code})"
