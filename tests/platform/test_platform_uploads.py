"""Uploads as clients get them wrong: names, bodies, methods, HTTP itself. Clear answers, nothing half-stored."""

import gzip
import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest
from platform_steps import announce, confirm, data, dataset, records, upload, validated

from live import Live, Member

HOSTILE_NAMES = [
    "../../../etc/passwd",
    "..",
    ".",
    "a/b/c.jsonl",
    "a\\b.jsonl",
    "/absolute.jsonl",
    "%2e%2e%2fescaped.jsonl",
    "query?size=1&expires=9.jsonl",
    "hash#fragment.jsonl",
    " spaces at both ends ",
    "trailing dot.",
    "-rf.jsonl",
    "CON",
    'quote"; filename="evil.html',
    "<script>alert(1)</script>.html",
    "한국어 データ ☃️.jsonl",
    "right-to-left \u202egnp.jsonl",
    "🦊" * 255,
    "x" * 255,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name)[:24])
def test_any_file_name_is_a_name_and_nothing_else(live: Live, owner: Member, name: str) -> None:
    """It is kept as it was given, leads nowhere on the disk, and comes back on the download."""
    content = records()
    created = announce(owner.client, len(content), file_name=name)
    assert created["dataset"]["file_name"] == name
    assert ".." not in created["storagePath"].split("/")
    sent = httpx2.put(created["uploadUrl"], content=content)
    assert sent.status_code == 200, sent.text
    stored = live.settings.data / "objects" / "lora-datasets" / created["storagePath"]
    home = live.settings.data / "objects" / "lora-datasets" / str(owner.workspace_id) / "datasets"
    assert stored.resolve().is_relative_to((home / created["dataset"]["id"]).resolve())
    assert stored.read_bytes() == content
    confirm(owner.client, created["dataset"]["id"])
    assert validated(owner.client, created["dataset"]["id"])["status"] == "ready"
    fetched = httpx2.get(owner.client.get(f"/api/datasets/{created['dataset']['id']}/download").headers["location"])
    assert fetched.content == content
    disposition = fetched.headers["content-disposition"]
    assert disposition.startswith("attachment;")
    assert "\n" not in disposition
    assert fetched.headers["content-type"] == "application/octet-stream", "no browser runs or shows it"


@pytest.fixture
def waiting(owner: Member) -> Iterator[dict[str, object]]:
    """An upload that waits for its bytes; at the end they still arrive, so nothing that was refused did harm."""
    content = records()
    created = announce(owner.client, len(content))
    yield {"url": created["uploadUrl"], "content": content}
    assert httpx2.put(created["uploadUrl"], content=content).status_code == 200
    confirm(owner.client, created["dataset"]["id"])
    assert validated(owner.client, created["dataset"]["id"])["status"] == "ready"


def refused(answer: httpx2.Response, status: int, code: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert body["error"][0].isupper()


def test_a_form_instead_of_a_body_is_refused_with_both_sizes(waiting: dict[str, object]) -> None:
    answer = httpx2.put(str(waiting["url"]), files={"file": ("cases.jsonl", waiting["content"])})
    refused(answer, 413, "too_large")


def test_a_compressed_body_is_not_the_announced_one(waiting: dict[str, object]) -> None:
    content = waiting["content"]
    assert isinstance(content, bytes)
    packed = gzip.compress(content)
    answer = httpx2.put(str(waiting["url"]), content=packed, headers={"Content-Encoding": "gzip"})
    refused(answer, 400, "size_mismatch")


@pytest.mark.parametrize(("extra", "status", "code"), [(b"more", 413, "too_large"), (None, 400, "size_mismatch")])
def test_a_body_without_a_length_is_counted(
    waiting: dict[str, object], extra: bytes | None, status: int, code: str
) -> None:
    content = waiting["content"]
    assert isinstance(content, bytes)
    chunks = [content, extra] if extra else [content[:-1]]
    refused(httpx2.put(str(waiting["url"]), content=iter(chunks)), status, code)


def test_a_piece_of_the_file_is_not_the_file(waiting: dict[str, object]) -> None:
    content = waiting["content"]
    assert isinstance(content, bytes)
    headers = {"Content-Range": f"bytes 0-9/{len(content)}"}
    refused(httpx2.put(str(waiting["url"]), content=content[:10], headers=headers), 400, "size_mismatch")


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_another_method_on_an_upload_url_is_405(waiting: dict[str, object], method: str) -> None:
    answer = httpx2.request(method, str(waiting["url"]), content=waiting["content"])
    refused(answer, 405, "method_not_allowed")
    assert "PUT" in answer.headers["allow"]


def test_an_upload_url_does_not_read(waiting: dict[str, object]) -> None:
    refused(httpx2.get(str(waiting["url"])), 403, "url_invalid")


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("size=", "size=1"),
        lambda url: url.replace("expires=", "expires=9"),
        lambda url: url.partition("?")[0],
        lambda url: url + "&size=5",
        lambda url: url[:-1],
        lambda url: url.replace("/lora-datasets/", "/backups/"),
        lambda url: url.replace("/lora-datasets/", "/lora-datasets/../backups/"),
        lambda url: url.replace("/lora-datasets/", "/lora-datasets/%2e%2e/backups/"),
    ],
    ids=["size", "expiry", "unsigned", "twice", "cut", "bucket", "dots", "escaped-dots"],
)
def test_an_altered_url_is_refused_whatever_was_altered(waiting: dict[str, object], change) -> None:
    answer = httpx2.put(change(str(waiting["url"])), content=waiting["content"])
    assert answer.status_code in {403, 404}, answer.text
    assert answer.json()["code"] in {"url_invalid", "not_found"}


def talk(url: str, head: str, body: bytes = b"", *, hang_up: bool = True) -> bytes:
    """What a server says to these very bytes. hang_up: say at once that nothing more comes."""
    place = urlsplit(url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 80), timeout=20) as connection:
        connection.sendall(head.format(path=f"{place.path}?{place.query}", host=place.netloc).encode() + body)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while block := connection.recv(65536):
            answer += block
        return answer


PUT = "PUT {path} HTTP/1.1\r\nHost: {host}\r\n"


@pytest.mark.parametrize(
    "head",
    [
        PUT + "Content-Length: many\r\n\r\n",
        PUT + "Content-Length: -5\r\n\r\n",
        PUT + "Content-Length: 5\r\nContent-Length: 7\r\n\r\n",
        PUT + "Content-Length: 99999999999999999999999\r\n\r\n",
        PUT + "Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
        PUT + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        "PUT {path} HTTP/9.9\r\n\r\n",
        "\x00\x01\x02\r\n\r\n",
    ],
    ids=["no-number", "negative", "two-lengths", "endless", "no-chunk", "both", "version", "noise"],
)
def test_broken_http_is_refused_and_harms_nobody(waiting: dict[str, object], head: str) -> None:
    answer = talk(str(waiting["url"]), head)
    status = answer.split(b" ", 2)[1] if answer else b"none"
    assert status in {b"400", b"413", b"none"}, answer[:300]


def test_a_client_that_asks_first_is_told_to_go_on(waiting: dict[str, object]) -> None:
    content = waiting["content"]
    assert isinstance(content, bytes)
    ask = PUT + f"Content-Length: {len(content)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    answer = talk(str(waiting["url"]), ask, content, hang_up=False)
    assert b"HTTP/1.1 200 " in answer, answer[:300]


def test_of_two_bodies_at_once_one_whole_one_is_stored(owner: Member) -> None:
    first, second = records(2_000), records(2_000).replace(b"Wait", b"Stay")
    created = announce(owner.client, len(first))
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda body: httpx2.put(created["uploadUrl"], content=body, timeout=60), [first, second] * 4)
        )
    assert {answer.status_code for answer in answers} <= {200, 409}
    won = {json.dumps(answer.json()["data"]["object"]["sha256"]) for answer in answers if answer.status_code == 200}
    assert len(won) == 1, "never a mixture, never one after the other"
    confirm(owner.client, created["dataset"]["id"])
    found = validated(owner.client, created["dataset"]["id"])
    assert (found["status"], found["total_records"]) == ("ready", 2_000)
    location = owner.client.get(f"/api/datasets/{found['id']}/download").headers["location"]
    assert httpx2.get(location).content in {first, second}


def test_a_file_that_lies_about_its_name_is_read_by_its_content(owner: Member) -> None:
    named = upload(owner.client, records(), file_name="picture.png")
    assert (named["status"], named["format"]) == ("ready", "openai_messages")
    executable = upload(owner.client, b"\x7fELF" + os.urandom(4000), file_name="cases.jsonl")
    assert (executable["status"], executable["training_ready"]) == ("error", False)


def test_downloads_in_pieces_give_the_file(owner: Member) -> None:
    content = records(500)
    found = upload(owner.client, content)
    location = owner.client.get(f"/api/datasets/{found['id']}/download").headers["location"]
    pieces = b""
    for start in range(0, len(content), 10_000):
        piece = httpx2.get(location, headers={"Range": f"bytes={start}-{start + 9_999}"})
        assert piece.status_code == 206
        pieces += piece.content
    assert pieces == content
    beyond = httpx2.get(location, headers={"Range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416


def test_a_confirmation_of_what_was_deleted_or_never_was_is_404(owner: Member) -> None:
    gone = upload(owner.client, records())
    assert owner.client.delete(f"/api/datasets/{gone['id']}").status_code == 200
    assert confirm(owner.client, gone["id"]).status_code == 404
    assert data(owner.client.post(f"/api/datasets/{gone['id']}/restore"))["dataset"]["status"] == "ready"
    assert dataset(owner.client, gone["id"])["status"] == "ready"
