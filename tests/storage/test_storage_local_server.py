"""Local storage behind real HTTP: what is refused, and that a refused, cut or killed upload leaves nothing behind."""

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from storage_servers import SECRET, StorageServer, storage_server

from brightrun.errors import ConflictError, StorageFullError
from brightrun.storage import Bucket
from brightrun.storage.signing import UrlSigner

MIB = 1024 * 1024
BUCKET = Bucket.LORA_DATASETS


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[StorageServer]:
    """A server of this test alone, to kill."""
    with storage_server(tmp_path / "own") as server:
        yield server


def eventually(condition: Callable[[], bool], within_s: float = 20) -> None:
    """For what another process does in its own time; there is nothing to wait on but its effect."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        os.sched_yield()


def begin_put(url: str, length: int, body: bytes) -> socket.socket:
    """Send the head of a PUT and the beginning of its body, on a connection that the test can break."""
    parts = urlsplit(url)
    connection = socket.create_connection((str(parts.hostname), parts.port or 80), timeout=30)
    head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def put_url(server: StorageServer, workspace: str, size: int, *, sha256: str | None = None, name: str = "x") -> str:
    url = server.store().presign_put(BUCKET, f"{workspace}/datasets/d/{name}", size=size, expires_s=60, sha256=sha256)
    assert url is not None
    return url


def nothing_stored(server: StorageServer, workspace: str) -> bool:
    return list(server.store().list_objects(BUCKET, workspace)) == []


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "status", "code"), [(99, 400, "size_mismatch"), (101, 413, "too_large")])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_another_size_is_refused_with_both_numbers(
    local_server: StorageServer, workspace: str, http: httpx2.Client, sent: int, status: int, code: str, chunked: bool
) -> None:
    url = put_url(local_server, workspace, 100)
    answer = http.put(url, content=iter([b"x" * sent]) if chunked else b"x" * sent)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "100" in answer.json()["error"]
    assert answer.json()["details"]["expected"] == 100
    if not (chunked and sent > 100):  # a chunked body is refused before its length is known
        assert str(sent) in answer.json()["error"]
    assert nothing_stored(local_server, workspace)


def test_a_wrong_hash_is_refused_with_both_hashes(
    local_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    url = put_url(local_server, workspace, 5, sha256=sha256(b"hello"))
    answer = http.put(url, content=b"hellO")
    assert (answer.status_code, answer.json()["code"]) == (400, "hash_mismatch")
    assert sha256(b"hello") in answer.json()["error"]
    assert sha256(b"hellO") in answer.json()["error"]
    assert nothing_stored(local_server, workspace)
    answer = http.put(url, content=b"hello")
    assert answer.status_code == 200
    assert answer.headers["etag"] == f'"{sha256(b"hello")}"'


def test_an_expired_url_says_so(local_server: StorageServer, workspace: str, http: httpx2.Client) -> None:
    past = UrlSigner(f"http://127.0.0.1:{local_server.port}", SECRET, now=lambda: time.time() - 3600)
    path = f"{workspace}/datasets/d/x"
    for method, url in (
        ("PUT", past.url("PUT", "object", BUCKET, path, expires_s=3600, size=1)),
        ("GET", past.url("GET", "object", BUCKET, path, expires_s=3600)),
    ):
        answer = http.request(method, url, content=b"x" if method == "PUT" else None)
        assert (answer.status_code, answer.json()["code"]) == (403, "url_expired")
    assert nothing_stored(local_server, workspace)


def test_an_altered_url_is_invalid(local_server: StorageServer, workspace: str, http: httpx2.Client) -> None:
    url = put_url(local_server, workspace, 100)
    for altered in (
        url.replace("size=100", "size=101"),
        url.replace(workspace, "another-workspace"),
        url.replace("lora-datasets", "lora-models"),
        url + "&size=101",
        url[:-1],
        url.partition("?")[0],
    ):
        answer = http.put(altered, content=b"x" * 101)
        assert (answer.status_code, answer.json()["code"]) == (403, "url_invalid"), altered
    assert nothing_stored(local_server, workspace)


def test_a_url_for_one_method_does_not_serve_another(
    local_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    local_server.store().put_bytes(BUCKET, f"{workspace}/datasets/d/x", b"content")
    get = local_server.store().presign_get(BUCKET, f"{workspace}/datasets/d/x", expires_s=60)
    assert http.put(get, content=b"x").json()["code"] == "url_invalid"
    assert http.get(put_url(local_server, workspace, 1)).json()["code"] == "url_invalid"
    assert http.delete(get).status_code == 405
    assert http.get(get).content == b"content"


def test_a_big_refused_body_still_gets_its_answer(local_server: StorageServer, workspace: str) -> None:
    with httpx2.Client(timeout=30) as client:
        answer = client.put(put_url(local_server, workspace, 10)[:-2] + "xx", content=b"x" * 30 * MIB)
    assert answer.json()["code"] == "url_invalid"


def test_a_path_below_an_object_is_a_clear_conflict(own_server: StorageServer, workspace: str) -> None:
    store = own_server.store()
    store.put_bytes(BUCKET, f"{workspace}/datasets/d", b"an object")
    with pytest.raises(ConflictError, match="part of its path is an object"):
        store.put_bytes(BUCKET, f"{workspace}/datasets/d/x", b"below it")
    assert own_server.leftovers() == []
    assert len(list((own_server.data / "object-info").rglob("*.json"))) == 1


# --- an upload URL writes once ------------------------------------------------------------------------------------


def test_the_same_bytes_may_be_put_again_and_others_not(
    local_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    url = put_url(local_server, workspace, 5)
    assert [http.put(url, content=b"first").status_code for _ in range(2)] == [200, 200]
    answer = http.put(url, content=b"other")
    assert (answer.status_code, answer.json()["code"]) == (409, "object_exists")
    assert local_server.store().read_bytes(BUCKET, f"{workspace}/datasets/d/x") == b"first"


# --- what is cut leaves nothing -------------------------------------------------------------------------------------


def test_a_client_that_leaves_midway_leaves_nothing(own_server: StorageServer, workspace: str) -> None:
    connection = begin_put(put_url(own_server, workspace, 50 * MIB), 50 * MIB, b"x" * 5 * MIB)
    eventually(lambda: own_server.leftovers() != [])
    connection.close()
    eventually(lambda: own_server.leftovers() == [])
    assert nothing_stored(own_server, workspace)
    assert "Traceback" not in own_server.log.read_text()


def test_a_killed_server_leaves_no_object_and_the_rest_is_swept(own_server: StorageServer, workspace: str) -> None:
    connection = begin_put(put_url(own_server, workspace, 50 * MIB), 50 * MIB, b"x" * 5 * MIB)
    eventually(lambda: own_server.leftovers() != [])
    own_server.kill()
    connection.close()
    store = own_server.store()
    assert nothing_stored(own_server, workspace)
    assert store.sweep_temporary(untouched_since=datetime.now(UTC) - timedelta(hours=1)) == 0  # may be alive
    assert store.sweep_temporary(untouched_since=datetime.now(UTC) + timedelta(hours=1)) == 1
    assert own_server.leftovers() == []


def test_sweeping_leaves_open_multipart_uploads_alone(own_server: StorageServer, workspace: str) -> None:
    store = own_server.store()
    upload = store.start_multipart(BUCKET, f"{workspace}/a/b", size=9, part_size=5 * MIB, expires_s=60)
    assert store.sweep_temporary(untouched_since=datetime.now(UTC) + timedelta(hours=1)) == 0
    assert store.multipart_status(BUCKET, f"{workspace}/a/b", upload.upload_id, expires_s=60).stored == ()


def test_parts_stored_before_a_kill_are_kept_and_a_cut_part_is_not(
    own_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    path = f"{workspace}/datasets/d/big"
    data = os.urandom(14 * MIB)
    store = own_server.store()
    upload = store.start_multipart(BUCKET, path, size=len(data), part_size=5 * MIB, expires_s=60, sha256=sha256(data))
    assert http.put(upload.parts[2].url, content=data[10 * MIB :]).status_code == 200
    connection = begin_put(upload.parts[0].url, 5 * MIB, data[: 3 * MIB])
    own_server.kill()
    connection.close()
    own_server.start()

    status = http.get(upload.status_url).json()["data"]["upload"]
    assert [part["number"] for part in status["stored"]] == [3]
    for part in status["parts"]:
        start = (part["number"] - 1) * status["part_size"]
        assert http.put(part["url"], content=data[start : start + part["size"]]).status_code == 200
    assert http.post(upload.complete_url).json()["data"]["object"]["sha256"] == sha256(data)
    assert store.head(BUCKET, path).sha256 == sha256(data)
    assert own_server.leftovers() == []


def test_a_torn_journal_line_is_not_counted_and_not_glued_to_the_next(
    own_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    """What a power cut in the middle of an append leaves."""
    upload = own_server.store().start_multipart(BUCKET, f"{workspace}/a/b", size=9, part_size=5, expires_s=60)
    assert http.put(upload.parts[0].url, content=b"01234").status_code == 200
    journal = next((own_server.data / "uploads").glob("*/journal"))
    journal.write_bytes(journal.read_bytes() + b'{"part": 2, "si')
    assert [p["number"] for p in http.get(upload.status_url).json()["data"]["upload"]["stored"]] == [1]
    assert http.put(upload.parts[1].url, content=b"5678").status_code == 200
    assert http.post(upload.complete_url).json()["data"]["object"]["sha256"] == sha256(b"012345678")


def test_a_completion_killed_after_publishing_is_repeatable(
    own_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    store = own_server.store()
    path = f"{workspace}/a/b"
    upload = store.start_multipart(BUCKET, path, size=9, part_size=5, expires_s=60)
    for part, body in zip(upload.parts, (b"01234", b"5678"), strict=True):
        http.put(part.url, content=body)
    folder = next((own_server.data / "uploads").iterdir())
    kept = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "data"}
    assert http.post(upload.complete_url).status_code == 200
    # As if the kill had come between the rename and the tidying.
    folder.mkdir()
    for name, content in kept.items():
        (folder / name).write_bytes(content)

    assert http.post(upload.complete_url).json()["data"]["object"]["sha256"] == sha256(b"012345678")
    assert own_server.leftovers() == []


def test_two_attempts_at_one_part_at_once_never_mix(
    own_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    """A client whose connection hangs tries again while the server still holds the first attempt."""
    store = own_server.store()
    path = f"{workspace}/a/b"
    first, second = os.urandom(5 * MIB), os.urandom(5 * MIB)
    upload = store.start_multipart(BUCKET, path, size=5 * MIB, part_size=5 * MIB, expires_s=60)
    hanging = begin_put(upload.parts[0].url, 5 * MIB, first[: 4 * MIB])
    assert http.put(upload.parts[0].url, content=second).status_code == 200
    hanging.sendall(first[4 * MIB :])
    assert b"409 Conflict" in hanging.recv(65536)
    hanging.close()
    assert http.post(upload.complete_url).json()["data"]["object"]["sha256"] == sha256(second)


def test_the_same_part_many_times_in_parallel_is_stored_once(
    local_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    upload = local_server.store().start_multipart(BUCKET, f"{workspace}/a/b", size=MIB, part_size=MIB, expires_s=60)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: http.put(upload.parts[0].url, content=b"z" * MIB).status_code, range(8)))
    assert answers == [200] * 8
    assert http.post(upload.complete_url).status_code == 200


def test_a_multipart_upload_of_the_wrong_file_is_refused_and_gone(
    own_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    upload = own_server.store().start_multipart(
        BUCKET, f"{workspace}/a/b", size=5, part_size=5, expires_s=60, sha256=sha256(b"hello")
    )
    http.put(upload.parts[0].url, content=b"hellO")
    answer = http.post(upload.complete_url)
    assert (answer.status_code, answer.json()["code"]) == (400, "hash_mismatch")
    assert nothing_stored(own_server, workspace)
    assert own_server.leftovers() == []


def test_a_part_of_the_wrong_size_is_refused(local_server: StorageServer, workspace: str, http: httpx2.Client) -> None:
    upload = local_server.store().start_multipart(BUCKET, f"{workspace}/a/b", size=9, part_size=5, expires_s=60)
    assert http.put(upload.parts[1].url, content=b"567").json()["code"] == "size_mismatch"
    assert http.put(upload.parts[1].url, content=b"56789").json()["code"] == "too_large"
    assert http.get(upload.status_url).json()["data"]["upload"]["stored"] == []


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_write_that_the_disk_refuses_is_507_and_leaves_nothing(
    tmp_path: Path, workspace: str, http: httpx2.Client
) -> None:
    with storage_server(tmp_path / "full", file_limit=2 * MIB) as server:
        answer = http.put(put_url(server, workspace, 4 * MIB), content=b"x" * 4 * MIB)
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert server.leftovers() == []
        assert nothing_stored(server, workspace)
        assert http.put(put_url(server, workspace, MIB), content=b"x" * MIB).status_code == 200  # it lives


def test_parts_on_a_small_full_file_system_are_507_and_the_rest_stays(
    tmp_path: Path, workspace: str, http: httpx2.Client
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with storage_server(tmp_path / "log", data=str(folder)) as server:
            upload = server.store().start_multipart(
                BUCKET, f"{workspace}/a/b", size=7 * MIB, part_size=3 * MIB, expires_s=60
            )
            answers = [http.put(p.url, content=b"x" * p.size) for p in upload.parts]
            full = [a for a in answers if a.status_code != 200]
            assert full
            assert {a.json()["code"] for a in full} == {"storage_full"}
            stored = [p["number"] for p in http.get(upload.status_url).json()["data"]["upload"]["stored"]]
            assert stored == [p.number for p, a in zip(upload.parts, answers, strict=True) if a.status_code == 200]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_an_upload_that_would_fill_the_disk_is_refused_before_it_starts(tmp_path: Path, workspace: str) -> None:
    with storage_server(tmp_path / "guarded", min_free_disk_bytes=2**60) as server:
        with pytest.raises(StorageFullError, match="kept free"):
            server.store().start_multipart(BUCKET, f"{workspace}/a/b", size=9, part_size=5, expires_s=60)
        assert httpx2.put(put_url(server, workspace, 10), content=b"0123456789").json()["code"] == "storage_full"
        assert server.leftovers() == []


# --- downloads --------------------------------------------------------------------------------------------------------


def test_a_download_carries_its_hash_and_never_runs_in_a_browser(
    local_server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    store = local_server.store()
    store.put_bytes(Bucket.EXPORTS, f"{workspace}/e/1/page.html", b"<script>alert(1)</script>")
    url = store.presign_get(Bucket.EXPORTS, f"{workspace}/e/1/page.html", expires_s=60)
    for answer in (http.get(url), http.head(url)):
        assert answer.status_code == 200
        assert answer.headers["etag"] == f'"{sha256(b"<script>alert(1)</script>")}"'
        assert answer.headers["content-length"] == "25"
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == 'attachment; filename="page.html"'
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
    assert http.get(url, headers={"range": "bytes=90-"}).status_code == 416
    absent = store.presign_get(Bucket.EXPORTS, f"{workspace}/e/1/none", expires_s=60)
    assert (http.get(absent).status_code, http.get(absent).json()["code"]) == (404, "object_not_found")


def test_a_changed_file_has_no_known_hash(local_server: StorageServer, workspace: str) -> None:
    """The note beside an object is believed only for the very file it was written for."""
    store = local_server.store()
    store.put_bytes(BUCKET, f"{workspace}/a/b", b"content")
    file = local_server.data / "objects" / BUCKET / workspace / "a" / "b"
    file.write_bytes(b"edited by hand")
    head = store.head(BUCKET, f"{workspace}/a/b")
    assert (head.size, head.sha256) == (14, None)


def test_signed_urls_do_not_appear_in_the_log(local_server: StorageServer, workspace: str, http: httpx2.Client) -> None:
    url = put_url(local_server, workspace, 3)
    http.put(url, content=b"abc")
    http.put(url + "x", content=b"abc")
    assert "signature=" not in local_server.log.read_text()
    assert url.rpartition("signature=")[2] not in local_server.log.read_text()
