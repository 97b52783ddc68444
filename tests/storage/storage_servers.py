"""A server process with the storage routes, as tests start, kill and restart it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brightrun.settings import Settings
from brightrun.storage import ObjectStore, open_store
from brightrun.storage.local import LocalStore

SECRET = b"a secret of the tests, 32 bytes!"
SCRIPT = Path(__file__).with_name("storage_server.py")


@dataclass
class StorageServer:
    """The server process and a store in this process that shares its data and secret."""

    settings: dict[str, Any]
    log: Path
    port: int = 0
    file_limit: int | None = None
    process: subprocess.Popen[str] | None = field(default=None, repr=False)
    _store: ObjectStore | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start (or start again, on the same port)."""
        limit = [] if self.file_limit is None else [str(self.file_limit)]
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(self.settings), str(self.port), *limit],
            stdout=subprocess.PIPE,
            stderr=self.log.open("a"),
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.port = int(line)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def store(self) -> ObjectStore:
        if self._store is None:
            url = f"http://127.0.0.1:{self.port}"
            self._store = open_store(Settings(**self.settings), public_url=url, secret=SECRET)
        return self._store

    def local(self) -> LocalStore:
        store = self.store()
        assert isinstance(store, LocalStore)
        return store

    @property
    def data(self) -> Path:
        return Path(self.settings["data"])

    def leftovers(self) -> list[str]:
        """What lies in the uploads folder: nothing, when nothing is half-stored."""
        return sorted(str(p.relative_to(self.data / "uploads")) for p in (self.data / "uploads").rglob("*"))

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


@contextlib.contextmanager
def storage_server(folder: Path, *, file_limit: int | None = None, **settings: Any) -> Iterator[StorageServer]:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"data": str(folder / "data"), "min_free_disk_bytes": 0} | settings
    server = StorageServer(settings, folder / "server.log", file_limit=file_limit)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def s3_settings(endpoint: str, **more: Any) -> dict[str, Any]:
    return {
        "storage": "s3",
        "s3_endpoint": endpoint,
        "s3_access_key_id": "A" * 20,
        "s3_secret_access_key": "B" * 40,
        **more,
    }
