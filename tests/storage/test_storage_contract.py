"""What every object store does, local disk and S3 alike: one suite over real processes."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from storage_servers import StorageServer

from brightrun.errors import InvalidInputError, NotFoundError
from brightrun.storage import Bucket, object_path
from brightrun.storage.errors import UploadIncompleteError, UploadNotFoundError

MIB = 1024 * 1024
BUCKET = Bucket.LORA_DATASETS


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_stored_bytes_are_read_back_with_size_and_hash(server: StorageServer, workspace: str) -> None:
    store = server.store()
    path = object_path(workspace, "datasets", "d1", "räksmörgås & co.jsonl")
    data = os.urandom(3 * MIB)

    stored = store.put_bytes(BUCKET, path, data)

    assert (stored.bucket, stored.path, stored.size, stored.sha256) == (BUCKET, path, len(data), sha256(data))
    head = store.head(BUCKET, path)
    assert (head.size, head.sha256) == (len(data), sha256(data))
    assert abs(head.modified - datetime.now(UTC)) < timedelta(minutes=5)
    assert store.read_bytes(BUCKET, path) == data
    assert store.read_bytes(BUCKET, path, offset=1000, length=7) == data[1000:1007]
    assert store.read_bytes(BUCKET, path, offset=len(data) - 3) == data[-3:]


def test_reading_streams_lines_and_seeks(server: StorageServer, workspace: str) -> None:
    store = server.store()
    path = f"{workspace}/datasets/d/lines.jsonl"
    lines = [b'{"n": %d, "pad": "%s"}\n' % (n, b"x" * 100) for n in range(30_000)]
    store.put_bytes(BUCKET, path, b"".join(lines))

    with store.open_read(BUCKET, path) as file:
        assert list(file) == lines
        file.seek(len(lines[0]))
        assert file.readline() == lines[1]
        file.seek(-len(lines[-1]), os.SEEK_END)
        assert file.read() == lines[-1]


def test_put_replaces_the_object_as_a_whole(server: StorageServer, workspace: str) -> None:
    store = server.store()
    path = f"{workspace}/exports/e/x.bin"
    store.put_bytes(Bucket.EXPORTS, path, b"long first content")
    store.put_bytes(Bucket.EXPORTS, path, b"second")
    assert store.read_bytes(Bucket.EXPORTS, path) == b"second"
    assert store.head(Bucket.EXPORTS, path).sha256 == sha256(b"second")


def test_an_empty_object_is_an_object(server: StorageServer, workspace: str) -> None:
    store = server.store()
    path = f"{workspace}/exports/e/empty"
    assert store.put_bytes(Bucket.EXPORTS, path, b"").size == 0
    assert store.read_bytes(Bucket.EXPORTS, path) == b""


def test_files_go_in_and_come_out_whole(server: StorageServer, workspace: str, tmp_path: Path) -> None:
    store = server.store()
    path = f"{workspace}/models/m/adapter.safetensors"
    source = tmp_path / "adapter.safetensors"
    source.write_bytes(os.urandom(20 * MIB + 1))

    stored = store.put_file(Bucket.LORA_MODELS, path, source)
    fetched = store.download_to(Bucket.LORA_MODELS, path, tmp_path / "back.bin")

    assert stored.sha256 == fetched.sha256 == sha256(source.read_bytes())
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter.safetensors", "back.bin"]


def test_copy_keeps_the_original_and_the_hash(server: StorageServer, workspace: str) -> None:
    store = server.store()
    store.put_bytes(Bucket.TRAINING_FILES, f"{workspace}/files/f/a b.json", b"content")
    copied = store.copy(
        Bucket.TRAINING_FILES, f"{workspace}/files/f/a b.json", BUCKET, f"{workspace}/datasets/d/c.json"
    )
    assert (copied.bucket, copied.size, copied.sha256) == (BUCKET, 7, sha256(b"content"))
    assert store.read_bytes(Bucket.TRAINING_FILES, f"{workspace}/files/f/a b.json") == b"content"


def test_listing_is_by_folder_and_in_order(server: StorageServer, workspace: str) -> None:
    store = server.store()
    names = ["models/b", "models/a/x", "models/a.txt", "models/a/y", "models2/z", "other/q"]
    for name in names:
        store.put_bytes(Bucket.LORA_MODELS, f"{workspace}/{name}", name.encode())

    found = [entry.path.removeprefix(workspace + "/") for entry in store.list_objects(Bucket.LORA_MODELS, workspace)]
    assert found == sorted(names)
    below = list(store.list_objects(Bucket.LORA_MODELS, f"{workspace}/models"))
    assert [e.path.removeprefix(workspace + "/") for e in below] == sorted(n for n in names if n.startswith("models/"))
    assert [e.size for e in below] == [len(e.path.removeprefix(workspace + "/")) for e in below]
    assert list(store.list_objects(Bucket.LORA_MODELS, f"{workspace}/absent")) == []


def test_delete_is_idempotent_and_by_folder(server: StorageServer, workspace: str) -> None:
    store = server.store()
    for name in ("j/1/a", "j/1/b/c", "j/2/a"):
        store.put_bytes(Bucket.LORA_MODELS, f"{workspace}/{name}", b"x")

    store.delete(Bucket.LORA_MODELS, f"{workspace}/j/2/a")
    store.delete(Bucket.LORA_MODELS, f"{workspace}/j/2/a")
    assert store.delete_prefix(Bucket.LORA_MODELS, f"{workspace}/j/1") == 2

    assert list(store.list_objects(Bucket.LORA_MODELS, workspace)) == []
    with pytest.raises(NotFoundError):
        store.head(Bucket.LORA_MODELS, f"{workspace}/j/1/a")
    with pytest.raises(InvalidInputError):
        store.delete_prefix(Bucket.LORA_MODELS, "")


def test_an_absent_object_is_not_found_everywhere(server: StorageServer, workspace: str, tmp_path: Path) -> None:
    store = server.store()
    path = f"{workspace}/datasets/none/x"
    for call in (
        lambda: store.head(BUCKET, path),
        lambda: store.open_read(BUCKET, path),
        lambda: store.read_bytes(BUCKET, path),
        lambda: store.download_to(BUCKET, path, tmp_path / "x"),
        lambda: store.copy(BUCKET, path, BUCKET, path + "2"),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a//b", "", "a\x00b", "a/./b", "a\\b", "x" * 201])
def test_unsafe_paths_are_refused_by_every_call(server: StorageServer, path: str, tmp_path: Path) -> None:
    store = server.store()
    for call in (
        lambda: store.head(BUCKET, path),
        lambda: store.put_bytes(BUCKET, path, b""),
        lambda: store.delete(BUCKET, path),
        lambda: store.presign_put(BUCKET, path, size=1, expires_s=60),
        lambda: store.presign_get(BUCKET, path, expires_s=60),
        lambda: store.start_multipart(BUCKET, path, size=1, part_size=5 * MIB, expires_s=60),
        lambda: store.copy(BUCKET, "a/b", BUCKET, path),
    ):
        with pytest.raises(InvalidInputError):
            call()


def test_a_signed_put_takes_the_body_and_a_signed_get_returns_it(
    server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    store = server.store()
    path = object_path(workspace, "datasets", "d", "my file (1) ü.jsonl")
    data = os.urandom(2 * MIB + 17)

    put = store.presign_put(BUCKET, path, size=len(data), expires_s=60)
    assert put is not None
    assert http.put(put, content=data).status_code in {200, 201}
    assert store.head(BUCKET, path).size == len(data)

    got = http.get(store.presign_get(BUCKET, path, expires_s=60, filename="Über 100%.jsonl"))
    assert got.status_code == 200
    assert got.content == data
    assert got.headers["content-length"] == str(len(data))
    assert got.headers["content-disposition"] == (
        "attachment; filename=\"_ber 100_.jsonl\"; filename*=UTF-8''%C3%9Cber%20100%25.jsonl"
    )


def test_ranges_of_a_signed_get_resume_a_download(server: StorageServer, workspace: str, http: httpx2.Client) -> None:
    store = server.store()
    path = f"{workspace}/datasets/d/x"
    store.put_bytes(BUCKET, path, b"0123456789")
    url = store.presign_get(BUCKET, path, expires_s=60)
    part = http.get(url, headers={"range": "bytes=4-"})
    assert (part.status_code, part.content) == (206, b"456789")
    assert part.headers["content-range"] == "bytes 4-9/10"


def test_parts_in_any_order_repeated_and_in_parallel_make_one_object(
    server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    store = server.store()
    path = f"{workspace}/datasets/d/big.jsonl"
    data = os.urandom(11 * MIB + 5)
    upload = store.start_multipart(BUCKET, path, size=len(data), part_size=5 * MIB, expires_s=60)
    assert [(p.number, p.size) for p in upload.parts] == [(1, 5 * MIB), (2, 5 * MIB), (3, MIB + 5)]

    def put(number: int) -> int:
        part = upload.parts[number - 1]
        offset = (number - 1) * upload.part_size
        return http.put(part.url, content=data[offset : offset + part.size]).status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(put, [3, 1, 2])) == [200] * 3
    assert [put(1), put(3)] == [200] * 2

    status = http.get(upload.status_url).json()["data"]["upload"]
    assert [part["number"] for part in status["stored"]] == [1, 2, 3]
    assert (status["parts"], status["complete"]) == ([], False)
    with pytest.raises(NotFoundError):
        store.head(BUCKET, path)  # it appears whole, at the end

    for _ in range(2):  # completing again is harmless
        answer = http.post(upload.complete_url)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["object"]["size"] == len(data)
    assert store.read_bytes(BUCKET, path) == data
    after = store.multipart_status(BUCKET, path, upload.upload_id, expires_s=60)
    assert after.complete
    assert after.parts == ()
    assert (after.size, after.part_size) == (len(data), 5 * MIB)


def test_completion_names_the_missing_parts_and_status_renews_their_urls(
    server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    store = server.store()
    path = f"{workspace}/datasets/d/gaps.jsonl"
    data = os.urandom(10 * MIB + 1)
    upload = store.start_multipart(BUCKET, path, size=len(data), part_size=5 * MIB, expires_s=60)
    http.put(upload.parts[1].url, content=data[5 * MIB : 10 * MIB])

    answer = http.post(upload.complete_url)
    assert answer.status_code == 409
    assert answer.json()["code"] == "upload_incomplete"
    assert answer.json()["details"] == {"missing": [1, 3]}
    with pytest.raises(UploadIncompleteError):
        store.complete_multipart(BUCKET, path, upload.upload_id)

    status = store.multipart_status(BUCKET, path, upload.upload_id, expires_s=60)
    assert [(p.number, p.size) for p in status.stored] == [(2, 5 * MIB)]
    for part in status.parts:
        offset = (part.number - 1) * status.part_size
        assert http.put(part.url, content=data[offset : offset + part.size]).status_code == 200
    assert store.complete_multipart(BUCKET, path, upload.upload_id).size == len(data)
    assert store.read_bytes(BUCKET, path) == data


def test_an_aborted_upload_leaves_nothing(server: StorageServer, workspace: str, http: httpx2.Client) -> None:
    store = server.store()
    path = f"{workspace}/datasets/d/aborted"
    upload = store.start_multipart(BUCKET, path, size=10, part_size=5 * MIB, expires_s=60)
    assert http.put(upload.parts[0].url, content=b"0123456789").status_code == 200

    for _ in range(2):
        store.abort_multipart(BUCKET, path, upload.upload_id)

    with pytest.raises(UploadNotFoundError):
        store.multipart_status(BUCKET, path, upload.upload_id, expires_s=60)
    assert http.post(upload.complete_url).json()["code"] == "upload_not_found"
    assert http.put(upload.parts[0].url, content=b"0123456789").status_code >= 400
    assert list(store.list_objects(BUCKET, workspace)) == []


def test_open_uploads_are_listed_by_their_start(server: StorageServer, workspace: str) -> None:
    store = server.store()
    path = f"{workspace}/datasets/d/open"
    upload = store.start_multipart(BUCKET, path, size=10, part_size=5 * MIB, expires_s=60)

    later = datetime.now(UTC) + timedelta(minutes=1)
    mine = [u for u in store.list_multiparts(started_before=later) if u.path == path]
    assert [u.bucket for u in mine] == [BUCKET]
    store.abort_multipart(BUCKET, path, mine[0].upload_id)
    with pytest.raises(UploadNotFoundError):
        store.multipart_status(BUCKET, path, upload.upload_id, expires_s=60)


def test_an_unknown_upload_is_not_found(server: StorageServer, workspace: str) -> None:
    store = server.store()
    for upload_id in ("", "nonsense", "10.5.0123456789abcdef0123456789abcdef", "1.0.x", "10.5.../../etc"):
        with pytest.raises(UploadNotFoundError):
            store.multipart_status(BUCKET, f"{workspace}/a/b", upload_id, expires_s=60)
        with pytest.raises(UploadNotFoundError):
            store.complete_multipart(BUCKET, f"{workspace}/a/b", upload_id)


def test_a_file_of_no_bytes_goes_in_one_piece(server: StorageServer, workspace: str, http: httpx2.Client) -> None:
    store = server.store()
    with pytest.raises(InvalidInputError):
        store.start_multipart(BUCKET, f"{workspace}/a/b", size=0, part_size=5 * MIB, expires_s=60)
    url = store.presign_put(BUCKET, f"{workspace}/a/b", size=0, expires_s=60)
    assert url is not None
    assert http.put(url, content=b"").status_code == 200
    assert store.head(BUCKET, f"{workspace}/a/b").size == 0


def test_control_urls_of_multipart_are_ours_and_signed(
    server: StorageServer, workspace: str, http: httpx2.Client
) -> None:
    upload = server.store().start_multipart(BUCKET, f"{workspace}/a/b", size=9, part_size=5 * MIB, expires_s=60)
    for url in (upload.complete_url, upload.status_url):
        assert url.startswith(f"http://127.0.0.1:{server.port}/storage/v1/multipart/")
        altered = url.replace("expires=1", "expires=2")
        answer = http.post(altered) if url == upload.complete_url else http.get(altered)
        assert (answer.status_code, answer.json()["code"]) == (403, "url_invalid")
