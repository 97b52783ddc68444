"""The same way with the bytes in S3, which takes what it is sent: what was announced is checked afterwards."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from dataset_steps import announce, chat_file, confirm, data, get, put, upload_and_validate, validated
from pydantic import SecretStr

from brightrun.db.roles import DatabaseUrls
from brightrun.settings import MIB
from brightrun.storage import open_store
from live import Live, Member, live_server


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    seen = ""
    while not (found := re.search(r"Running on (http://\S+)", seen)):
        line = process.stderr.readline()
        assert line, seen
        seen += line
    drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)  # or the pipe fills
    yield found[1]
    process.terminate()
    process.wait(20)
    drain.wait(20)


@pytest.fixture
def s3_owner(fresh_pg_urls: DatabaseUrls, live: Live, s3_endpoint: str, tmp_path: Path) -> Iterator[Member]:
    settings = live.settings.model_copy(
        update={
            "data": tmp_path,
            "storage": "s3",
            "s3_endpoint": s3_endpoint,
            "s3_bucket": "everything",
            "s3_access_key_id": SecretStr("A" * 20),
            "s3_secret_access_key": SecretStr("B" * 40),
            "upload_part_bytes": 5 * MIB,
        }
    )
    open_store(settings, public_url="http://localhost", secret=live.secret).ensure_buckets()
    with live_server(fresh_pg_urls, settings, live.secret) as server:
        yield server.new_workspace()


def test_a_dataset_goes_through_s3(s3_owner: Member) -> None:
    client = s3_owner.client
    plain = upload_and_validate(client, b"not json\n" + chat_file())
    assert (plain["status"], plain["errors_total"]) == ("error", 1)
    issues = httpx2.get(client.get(f"/api/datasets/{plain['id']}/issues/download").headers["location"])
    assert b"broken_json" in issues.content

    content = chat_file(7, long=1_000_000)  # two parts: the first has the least size that S3 takes
    created = data(announce(client, content))
    multipart = created["multipart"]
    assert len(multipart["parts"]) == 2
    for part in multipart["parts"]:
        start = (part["number"] - 1) * multipart["part_size"]
        sent = httpx2.put(part["url"], content=content[start : start + part["size"]], timeout=60)
        assert sent.status_code == 200, sent.text
    assert data(client.get(f"/api/datasets/{created['dataset']['id']}/upload"))["multipart"]["parts"] == []
    assert httpx2.post(multipart["complete_url"], timeout=60).status_code == 200
    confirm(client, created["dataset"]["id"])
    dataset = validated(client, created["dataset"]["id"])
    assert (dataset["status"], dataset["sha256"]) == ("ready", hashlib.sha256(content).hexdigest())
    fetched = httpx2.get(client.get(f"/api/datasets/{dataset['id']}/download").headers["location"], timeout=60)
    assert fetched.content == content


def test_what_s3_took_against_the_announcement_is_removed_and_told(s3_owner: Member) -> None:
    client, content = s3_owner.client, chat_file()
    digest = hashlib.sha256(content).hexdigest()

    wrong_hash = data(announce(client, content, sha256=digest))
    put(wrong_hash, content.replace(b"About", b"Maybe"))
    assert confirm(client, wrong_hash["dataset"]["id"]).status_code == 200
    dataset = validated(client, wrong_hash["dataset"]["id"])
    assert (dataset["status"], dataset["error_code"]) == ("error", "hash_mismatch")
    assert client.get(f"/api/datasets/{dataset['id']}/download").json()["code"] == "file_removed"

    wrong_size = data(announce(client, content, sha256=digest))
    put(wrong_size, content + b"more")
    answer = confirm(client, wrong_size["dataset"]["id"])
    assert (answer.status_code, answer.json()["code"]) == (400, "size_mismatch")
    dataset = get(client, wrong_size["dataset"]["id"])
    assert (dataset["status"], dataset["error_code"]) == ("error", "size_mismatch")
