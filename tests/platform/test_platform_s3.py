"""The whole platform on S3: the bytes go straight to a real S3-speaking server, past us."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from platform_steps import announce, confirm, data, dataset, put_parts, records, upload, validated

from brightrun.clock import utcnow
from brightrun.datasets.sweeper import purge_deleted
from brightrun.db.roles import DatabaseUrls
from brightrun.db.session import Database
from brightrun.platform import Platform
from brightrun.settings import GIB, MIB
from brightrun.storage import Bucket, ObjectStore, open_store
from brightrun.storage.errors import ObjectNotFoundError
from live import Live, live_server
from moto_process import moto_server, s3_values


@dataclass
class OnS3:
    """live: the platform. store: the same S3, looked at directly. endpoint: its URL."""

    live: Live
    store: ObjectStore
    endpoint: str

    def stored(self, of: dict[str, Any]) -> bytes | None:
        """The dataset's object as S3 has it; None when there is none."""
        try:
            return self.store.read_bytes(Bucket(of["storage_bucket"]), of["storage_path"])
        except ObjectNotFoundError:
            return None

    def everything(self) -> list[str]:
        """Path of every object and every multipart upload."""
        uploads = self.store.list_multiparts(started_before=utcnow() + timedelta(days=1))
        return [*(found.path for bucket in Bucket for found in self.store.list_objects(bucket)), *map(str, uploads)]


@pytest.fixture(scope="module")
def on_s3(
    live: Live,
    new_database: Callable[[], AbstractContextManager[DatabaseUrls]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OnS3]:
    own = {"data": tmp_path_factory.mktemp("s3"), "max_upload_bytes": 10 * GIB, "workspace_quota_bytes": 0}
    with moto_server() as endpoint, new_database() as urls:
        settings = live.settings.model_copy(update=s3_values(endpoint, **own))
        store = open_store(settings, public_url=live.url, secret=live.secret)
        store.ensure_buckets()
        with live_server(urls, settings, live.secret) as running:
            yield OnS3(running, store, endpoint)


@pytest.fixture
def client(on_s3: OnS3) -> httpx2.Client:
    return on_s3.live.new_workspace().client


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def test_one_put_goes_straight_to_s3_and_becomes_ready(on_s3: OnS3, client: httpx2.Client) -> None:
    content = records()
    created = announce(client, len(content), sha256=hashlib.sha256(content).hexdigest())
    assert origin(created["uploadUrl"]) == on_s3.endpoint, "the bytes do not pass through us"
    assert httpx2.put(created["uploadUrl"], content=content).status_code == 200
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    ready = validated(client, created["dataset"]["id"])
    assert (ready["status"], ready["total_conversations"], ready["training_ready"]) == ("ready", 3, True)
    assert on_s3.stored(ready) == content


def test_parts_go_straight_to_s3_and_become_one_object(on_s3: OnS3, client: httpx2.Client) -> None:
    content = records(6, words=400_000)  # three parts of 5 MiB at least
    created = announce(client, len(content))
    multipart = created["multipart"]
    assert len(multipart["parts"]) > 2
    assert {origin(part["url"]) for part in multipart["parts"]} == {on_s3.endpoint}
    assert origin(multipart["complete_url"]) == on_s3.live.url, "only the completion is ours"
    put_parts(multipart, content)
    confirm(client, created["dataset"]["id"])
    ready = validated(client, created["dataset"]["id"])
    assert (ready["status"], ready["sha256"]) == ("ready", hashlib.sha256(content).hexdigest())
    redirect = client.get(f"/api/datasets/{ready['id']}/download")
    assert redirect.status_code == 307
    assert origin(redirect.headers["location"]) == on_s3.endpoint
    fetched = httpx2.get(redirect.headers["location"], timeout=60)
    assert fetched.content == content
    assert "cases.jsonl" in fetched.headers["content-disposition"]


def test_another_size_than_announced_is_found_at_the_confirmation_and_removed(
    on_s3: OnS3, client: httpx2.Client
) -> None:
    content = records()
    created = announce(client, len(content))
    assert httpx2.put(created["uploadUrl"], content=content + b"more").is_success, "moto takes what it is sent"
    refused = confirm(client, created["dataset"]["id"])
    assert (refused.status_code, refused.json()["code"]) == (400, "size_mismatch")
    assert f"{len(content):,}" in refused.json()["error"]
    found = dataset(client, created["dataset"]["id"])
    assert (found["status"], found["error_code"], found["training_ready"]) == ("error", "size_mismatch", False)
    assert on_s3.stored(found) is None
    assert client.get(f"/api/datasets/{found['id']}/download").json()["code"] == "file_removed"
    assert client.get(f"/api/datasets/{found['id']}/upload").status_code == 409


def test_another_hash_than_announced_is_found_while_validating_and_removed(on_s3: OnS3, client: httpx2.Client) -> None:
    content = records()
    created = announce(client, len(content), sha256="0" * 64)
    httpx2.put(created["uploadUrl"], content=content)
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    found = validated(client, created["dataset"]["id"])
    assert (found["status"], found["error_code"], found["training_ready"]) == ("error", "hash_mismatch", False)
    assert "0" * 64 in found["error_message"]
    assert on_s3.stored(found) is None


def test_a_confirmation_without_the_bytes_says_what_is_missing(client: httpx2.Client) -> None:
    content = records(4, words=400_000)
    created = announce(client, len(content))
    first = created["multipart"]["parts"][0]
    assert httpx2.put(first["url"], content=content[: first["size"]], timeout=60).is_success
    refused = confirm(client, created["dataset"]["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "upload_incomplete")
    assert refused.json()["details"]["stored_parts"] == 1
    # The rest is still welcome.
    put_parts(data(client.get(f"/api/datasets/{created['dataset']['id']}/upload"))["multipart"], content)
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    assert validated(client, created["dataset"]["id"])["status"] == "ready"


def test_pages_may_connect_to_s3_and_to_nothing_else(on_s3: OnS3) -> None:
    policy = on_s3.live.client().get("/signin").headers["content-security-policy"]
    connect = next(part for part in policy.split("; ") if part.startswith("connect-src"))
    assert connect.split() == ["connect-src", "'self'", on_s3.endpoint]


def test_above_five_gigabytes_there_is_no_plain_put(client: httpx2.Client) -> None:
    assert announce(client, 5 * GIB)["uploadUrl"] is not None
    above = announce(client, 5 * GIB + 1)
    assert above["uploadUrl"] is None
    parts = above["multipart"]["parts"]
    assert sum(part["size"] for part in parts) == 5 * GIB + 1
    assert len(parts) <= 10_000, "S3 takes no more"


def test_cancelled_and_purged_datasets_leave_nothing_in_s3(on_s3: OnS3) -> None:
    member = on_s3.live.new_workspace()
    client = member.client
    faulty = upload(client, b"not json\n" + records())
    assert faulty["status"] == "error"
    half = announce(client, 12 * MIB)
    first = half["multipart"]["parts"][0]
    assert httpx2.put(first["url"], content=bytes(first["size"]), timeout=60).is_success
    mine = str(member.workspace_id)
    kept = [key for key in on_s3.everything() if mine in key]
    assert sum("/datasets/" in key for key in kept) == 2, "the file, and the upload that is under way"
    assert any("/datasets/" not in key for key in kept), "the list of issues is kept as objects, too"
    assert client.delete(f"/api/datasets/{half['dataset']['id']}/upload").status_code == 200
    assert client.delete(f"/api/datasets/{faulty['id']}").status_code == 200
    assert on_s3.stored(faulty) is not None, "it can still be restored"
    purge_everything_deleted(on_s3)
    assert [key for key in on_s3.everything() if mine in key] == []
    assert client.post(f"/api/datasets/{faulty['id']}/restore").status_code == 404


def purge_everything_deleted(on_s3: OnS3) -> None:
    """The nightly purge, as a worker does it, of whatever is in the trash."""
    live = on_s3.live
    settings = live.settings.model_copy(update={"deleted_retention_days": 0})

    async def purge() -> None:
        database = Database(live.urls.worker.render_as_string(hide_password=False), pool_size=2)
        try:
            await purge_deleted(
                Platform(settings=settings, secret=live.secret, db=database, store=on_s3.store, public_url=live.url)
            )
        finally:
            await database.dispose()

    asyncio.run(purge())
