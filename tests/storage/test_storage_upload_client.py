"""The uploader of command line and SDK: parallel, patient, resumable; local storage and S3 alike."""

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from storage_servers import SECRET, StorageServer, storage_server

from brightrun.storage import Bucket
from brightrun.storage.errors import UploadFailedError
from brightrun.storage.signing import UrlSigner
from brightrun.storage.store import Multipart, MultipartStatus
from brightrun.storage.upload_client import UploadTarget, upload_file

MIB = 1024 * 1024
BUCKET = Bucket.LORA_DATASETS
PART = 5 * MIB


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[StorageServer]:
    with storage_server(tmp_path / "own") as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "training.jsonl"
    path.write_bytes(os.urandom(22 * MIB + 3))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start(server: StorageServer, path: str, size: int, *, part_size: int = PART) -> Multipart:
    return server.store().start_multipart(BUCKET, path, size=size, part_size=part_size, expires_s=60)


def target(upload: Multipart | MultipartStatus) -> UploadTarget:
    # Through JSON, as it comes from the API.
    return UploadTarget.from_json(json.loads(json.dumps({"uploadUrl": None, "multipart": upload.as_json()})))


def test_a_file_goes_up_in_parallel_parts(server: StorageServer, workspace: str, file: Path) -> None:
    path = f"{workspace}/datasets/d/training.jsonl"
    seen: list[tuple[int, int]] = []
    size = file.stat().st_size

    result = upload_file(file, target(start(server, path, size)), progress=lambda *at: seen.append(at))

    assert (result.size, result.sent) == (size, size)
    assert result.sha256 in {digest(file), None}
    assert server.store().read_bytes(BUCKET, path) == file.read_bytes()
    assert (seen[0], seen[-1]) == ((0, size), (size, size))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)  # nothing was sent twice


def test_a_second_start_sends_only_what_is_missing(server: StorageServer, workspace: str, file: Path) -> None:
    path = f"{workspace}/datasets/d/training.jsonl"
    size = file.stat().st_size
    upload = start(server, path, size)
    cancel = threading.Event()

    def stop_after_two_parts(done: int, _total: int) -> None:
        if done >= 2 * PART:
            cancel.set()

    with pytest.raises(UploadFailedError, match="go on") as stopped:
        upload_file(file, target(upload), parallel=1, cancel=cancel, progress=stop_after_two_parts)
    assert stopped.value.code == "upload_stopped"

    result = upload_file(file, target(upload))
    assert PART <= size - result.sent <= 2 * PART
    assert server.store().read_bytes(BUCKET, path) == file.read_bytes()
    assert upload_file(file, target(upload)).sent == 0  # and a third finds it complete


def test_one_plain_put_where_there_are_no_parts(server: StorageServer, workspace: str, file: Path) -> None:
    url = server.store().presign_put(BUCKET, f"{workspace}/d/x", size=file.stat().st_size, expires_s=60)
    assert upload_file(file, UploadTarget(url, None)).sent == file.stat().st_size
    assert server.store().read_bytes(BUCKET, f"{workspace}/d/x") == file.read_bytes()


def test_expired_urls_are_renewed_and_stored_parts_kept(server: StorageServer, workspace: str, file: Path) -> None:
    path = f"{workspace}/datasets/d/training.jsonl"
    size = file.stat().st_size
    fresh = start(server, path, size)
    old = UrlSigner(f"http://127.0.0.1:{server.port}", SECRET, now=lambda: time.time() - 60)
    expired = {
        **fresh.as_json(),
        "status_url": old.url("GET", "multipart/status", BUCKET, path, expires_s=60, upload_id=fresh.upload_id),
    }
    with pytest.raises(UploadFailedError) as refused:
        upload_file(file, UploadTarget(None, expired))
    assert refused.value.code == "url_expired"

    def renew() -> UploadTarget:
        return target(server.store().multipart_status(BUCKET, path, fresh.upload_id, expires_s=60))

    assert upload_file(file, UploadTarget(None, expired), renew=renew).sent == size
    assert server.store().head(BUCKET, path).size == size


def test_another_file_than_was_announced_is_refused_before_it_is_sent(
    local_server: StorageServer, workspace: str, file: Path
) -> None:
    upload = start(local_server, f"{workspace}/d/x", 10)
    with pytest.raises(UploadFailedError, match="another file") as refused:
        upload_file(file, target(upload))
    assert refused.value.code == "size_mismatch"


def test_the_server_s_own_reason_reaches_the_person(local_server: StorageServer, workspace: str, file: Path) -> None:
    store = local_server.store()
    url = store.presign_put(BUCKET, f"{workspace}/d/x", size=file.stat().st_size, expires_s=60, sha256="0" * 64)
    with pytest.raises(UploadFailedError, match="its SHA-256 should be 000") as refused:
        upload_file(file, UploadTarget(url, None))
    assert (refused.value.code, refused.value.status) == ("hash_mismatch", 400)
    assert "signature" not in refused.value.message


def test_patience_ends_with_how_to_go_on(own_server: StorageServer, workspace: str, file: Path) -> None:
    upload = start(own_server, f"{workspace}/d/x", file.stat().st_size)
    own_server.kill()
    with pytest.raises(UploadFailedError, match="start it again to go on"):
        upload_file(file, target(upload), patience_s=0.1)


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_server_killed_in_the_middle_is_waited_for(
    own_server: StorageServer, workspace: str, tmp_path: Path, parallel: int
) -> None:
    """kill -9 in the middle of a part; the same call goes on when the server is back, and the hash matches."""
    file = tmp_path / "big"
    file.write_bytes(os.urandom(60 * MIB))
    path = f"{workspace}/d/big"
    upload = start(own_server, path, 60 * MIB)
    killed = threading.Event()
    back = threading.Event()

    def kill_once(done: int, _total: int) -> None:
        if done > 22 * MIB and not killed.is_set():
            killed.set()
            own_server.kill()
            threading.Thread(target=lambda: (own_server.start(), back.set())).start()

    result = upload_file(file, target(upload), parallel=parallel, progress=kill_once)

    assert killed.is_set()
    assert back.wait(20)
    assert result.sha256 == digest(file) == own_server.store().head(BUCKET, path).sha256
    assert own_server.leftovers() == []


def test_a_killed_client_is_resumed_by_another(own_server: StorageServer, workspace: str, file: Path) -> None:
    path = f"{workspace}/d/x"
    upload = start(own_server, path, file.stat().st_size, part_size=2 * MIB)
    script = Path(__file__).with_name("upload_once.py")
    argument = json.dumps({"uploadUrl": None, "multipart": upload.as_json()})
    client = subprocess.Popen([sys.executable, str(script), str(file), argument], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    for line in client.stdout:
        if int(line) > 11 * MIB:
            client.kill()
            break
    client.wait()
    client.stdout.close()

    result = upload_file(file, target(upload))
    assert 0 < result.sent < file.stat().st_size
    assert result.sha256 == digest(file)
    assert own_server.leftovers() == []


def test_importing_the_uploader_brings_in_no_server() -> None:
    code = (
        "import sys, brightrun.storage.upload_client;"
        "assert not {'fastapi', 'starlette', 'obstore', 'botocore', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killing_the_server_again_and_again_loses_no_accepted_part(
    own_server: StorageServer, workspace: str, tmp_path: Path, seed: int
) -> None:
    """The service manager's view: the server dies at random moments, completion included, and comes back."""
    dice = random.Random(seed)
    file = tmp_path / "big"
    file.write_bytes(dice.randbytes(40 * MIB))
    path = f"{workspace}/d/big"
    upload = start(own_server, path, 40 * MIB)
    finished = threading.Event()
    most_stored = 0

    def kill_and_restart() -> None:
        nonlocal most_stored
        for _ in range(8):
            if finished.wait(dice.uniform(0.02, 0.3)):
                return
            own_server.kill()
            status = own_server.store().multipart_status(BUCKET, path, upload.upload_id, expires_s=60)
            assert len(status.stored) >= most_stored
            most_stored = len(status.stored)
            own_server.start()

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_and_restart)
        try:
            result = upload_file(file, target(upload))
        finally:
            finished.set()
        killing.result()

    assert result.sha256 == digest(file)
    assert own_server.store().head(BUCKET, path).sha256 == digest(file)
    own_server.store().sweep_temporary(untouched_since=datetime.now(UTC) + timedelta(hours=1))
    assert own_server.leftovers() == []
