"""Listing, changing, deleting, restoring, quotas, roles, and who sees what."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
from dataset_steps import announce, chat_file, confirm, data, get, upload, upload_and_validate, validated

from brightrun.accounts.roles import Role
from brightrun.datasets import service
from brightrun.datasets.tables import Dataset
from brightrun.db.roles import DatabaseUrls, libpq
from live import Live, Member


def listed(client: httpx2.Client, **query: Any) -> list[str]:
    return [item["name"] for item in data(client.get("/api/datasets", params=query))["items"]]


def test_the_list_is_paged_filtered_searched_and_sorted(owner: Member) -> None:
    sizes = {"Raku": 4, "Celadon 100%": 2, "raku again": 3}
    for name, records in sizes.items():
        announce(owner.client, chat_file(records), name=name, file_name=f"{name[:3]}.jsonl")
    ready = upload_and_validate(owner.client, chat_file(1), name="Ready one")
    everything = data(owner.client.get("/api/datasets"))
    assert everything.keys() == {"items", "total", "page", "limit"}
    assert (everything["total"], everything["page"], everything["limit"]) == (4, 1, 25)
    assert everything["items"][0]["name"] == "Ready one"
    first = everything["items"][0]
    assert first["validation_errors"] is None
    assert first["sample_data"] is None
    assert first["total_records"] == 1

    assert listed(owner.client, status="ready") == ["Ready one"]
    assert listed(owner.client, format="OpenAI", status="ready") == ["Ready one"]
    assert listed(owner.client, format="alpaca") == []
    assert sorted(listed(owner.client, search="RAKU")) == ["Raku", "raku again"]
    assert listed(owner.client, search="100%") == ["Celadon 100%"]
    assert listed(owner.client, search="%") == ["Celadon 100%"]
    assert listed(owner.client, search="kiln.jsonl") == ["Ready one"]
    assert listed(owner.client, sort="name") == ["Celadon 100%", "Raku", "raku again", "Ready one"]
    assert listed(owner.client, sort="file_size", limit=2) == ["Ready one", "Celadon 100%"]
    assert listed(owner.client, sort="file_size", limit=2, page=2) == ["raku again", "Raku"]
    stats = data(owner.client.get("/api/datasets/stats"))["stats"]
    assert stats["by_status"] == {"uploading": 3, "validating": 0, "ready": 1, "error": 0}
    assert (stats["total"], stats["deleted"]) == (4, 0)
    assert stats["used_bytes"] == sum(len(chat_file(n)) for n in (*sizes.values(), 1))
    assert get(owner.client, ready["id"])["sample_data"]


def test_name_and_description_can_be_changed(owner: Member) -> None:
    dataset_id = upload(owner.client, chat_file())
    at = f"/api/datasets/{dataset_id}"
    changed = data(owner.client.patch(at, json={"name": "  New name ", "description": "Why"}))["dataset"]
    assert (changed["name"], changed["description"]) == ("New name", "Why")
    assert data(owner.client.patch(at, json={"description": None}))["dataset"]["description"] is None
    assert get(owner.client, dataset_id)["name"] == "New name"
    assert list(owner.client.patch(at, json={"name": ""}).json()["details"]) == ["name"]


def test_deleted_datasets_are_hidden_until_they_are_restored(owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file(), name="To and fro")
    at = f"/api/datasets/{dataset['id']}"
    assert data(owner.client.delete(at))["dataset"]["deleted_at"]
    assert owner.client.get(at).status_code == 404
    assert confirm(owner.client, dataset["id"]).status_code == 404
    assert owner.client.delete(at).status_code == 404
    assert listed(owner.client) == []
    assert listed(owner.client, deleted=True) == ["To and fro"]
    restored = data(owner.client.post(f"{at}/restore"))["dataset"]
    assert (restored["deleted_at"], restored["status"], restored["training_ready"]) == (None, "ready", True)
    assert owner.client.post(f"{at}/restore").status_code == 200, "restoring twice is harmless"
    assert get(owner.client, dataset["id"])["total_records"] == 3


@pytest.fixture
def busy_guard() -> Iterator[set[str]]:
    """Names of datasets that some room says are in use."""
    in_use: set[str] = set()

    async def guard(_session: Any, dataset: Dataset) -> str | None:
        return f"The job for {dataset.name!r} is running; cancel it first." if dataset.name in in_use else None

    service.deletion_guards.append(guard)
    yield in_use
    service.deletion_guards.remove(guard)


def test_a_dataset_in_use_is_not_deleted_and_says_why(owner: Member, busy_guard: set[str]) -> None:
    dataset_id = upload(owner.client, chat_file(), name="Busy")
    busy_guard.add("Busy")
    refused = owner.client.delete(f"/api/datasets/{dataset_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    assert "cancel it first" in refused.json()["error"]
    assert get(owner.client, dataset_id)["deleted_at"] is None


def test_a_cancelled_upload_leaves_nothing(live: Live, owner: Member) -> None:
    content = chat_file()
    created = data(announce(owner.client, content))
    dataset_id, multipart = created["dataset"]["id"], created["multipart"]
    httpx2.put(multipart["parts"][0]["url"], content=content)
    cancelled = data(owner.client.delete(f"/api/datasets/{dataset_id}/upload"))["dataset"]
    assert cancelled["deleted_at"]
    assert httpx2.post(multipart["complete_url"]).status_code == 404
    native = multipart["upload_id"].rpartition(".")[2]
    assert not (live.settings.data / "uploads" / native).exists()
    assert owner.client.get(f"/api/datasets/{dataset_id}").status_code == 404
    refused = owner.client.post(f"/api/datasets/{dataset_id}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "file_removed")
    assert data(owner.client.get("/api/datasets/stats"))["stats"]["used_bytes"] == 0


def test_an_upload_that_is_in_cannot_be_cancelled(owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file())
    refused = owner.client.delete(f"/api/datasets/{dataset['id']}/upload")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_uploaded")
    assert get(owner.client, dataset["id"])["status"] == "ready"


def test_the_quota_of_a_workspace_is_kept_with_its_numbers(owner: Member, pg_urls: DatabaseUrls) -> None:
    content = chat_file()
    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:
        connection.execute(
            "update workspaces set storage_quota_bytes = %s where id = %s", [2 * len(content), owner.workspace_id]
        )
    first = data(announce(owner.client, content))
    assert announce(owner.client, content).status_code == 201
    refused = announce(owner.client, content)
    assert (refused.status_code, refused.json()["code"]) == (507, "quota_exceeded")
    assert refused.json()["details"] == {
        "size": len(content),
        "used": 2 * len(content),
        "quota": 2 * len(content),
    }
    owner.client.delete(f"/api/datasets/{first['dataset']['id']}/upload")
    assert announce(owner.client, content).status_code == 201, "a cancelled upload gives its room back"
    stats = data(owner.client.get("/api/datasets/stats"))["stats"]
    assert (stats["used_bytes"], stats["quota_bytes"]) == (2 * len(content), 2 * len(content))


def test_another_workspace_sees_and_changes_nothing(live: Live, owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file(), name="Private")
    stranger = live.new_workspace("Elsewhere")
    at = f"/api/datasets/{dataset['id']}"
    calls = [
        ("GET", at),
        ("PATCH", at),
        ("DELETE", at),
        ("POST", f"{at}/confirm"),
        ("POST", f"{at}/restore"),
        ("GET", f"{at}/upload"),
        ("DELETE", f"{at}/upload"),
        ("GET", f"{at}/validation"),
        ("GET", f"{at}/issues"),
        ("GET", f"{at}/issues/download"),
        ("GET", f"{at}/download"),
    ]
    for method, path in calls:
        body = {"name": "Mine now"} if method == "PATCH" else None
        foreign = stranger.client.request(method, path, json=body)
        absent = stranger.client.request(method, path.replace(dataset["id"], str(uuid4())), json=body)
        assert (foreign.status_code, foreign.json()) == (404, absent.json()), (method, path)
    assert listed(stranger.client) == []
    assert data(stranger.client.get("/api/datasets/stats"))["stats"]["total"] == 0
    assert get(owner.client, dataset["id"])["name"] == "Private"


def test_a_viewer_reads_and_does_not_write(live: Live, owner: Member) -> None:
    dataset_id = upload(owner.client, chat_file())
    viewer = live.new_member(owner.workspace_id, Role.VIEWER)
    assert get(viewer.client, dataset_id)["id"] == dataset_id
    for answer in (
        announce(viewer.client, chat_file()),
        confirm(viewer.client, dataset_id),
        viewer.client.delete(f"/api/datasets/{dataset_id}"),
        viewer.client.patch(f"/api/datasets/{dataset_id}", json={"name": "x"}),
        viewer.client.get(f"/api/datasets/{dataset_id}/upload"),
    ):
        assert answer.status_code == 403
    assert live.client().get("/api/datasets").status_code == 401


def test_what_is_stored_is_not_what_was_announced(live: Live, owner: Member) -> None:
    """As S3 takes what it is sent: the validator finds it, the object goes, the dataset says so."""
    content = chat_file()
    store_path = live.settings.data / "objects" / "lora-datasets"
    for broken, code in (
        (content.replace(b"About", b"Maybe"), "hash_mismatch"),
        (content + b"\n", "size_mismatch"),
    ):
        created = data(announce(owner.client, content, sha256=hashlib.sha256(content).hexdigest()))
        dataset_id = created["dataset"]["id"]
        file = store_path / created["storagePath"]
        file.parent.mkdir(parents=True)
        file.write_bytes(broken)
        answer = confirm(owner.client, dataset_id)
        if code == "size_mismatch":
            assert (answer.status_code, answer.json()["code"]) == (400, code)
        dataset = validated(owner.client, dataset_id)
        assert (dataset["status"], dataset["error_code"]) == ("error", code)
        assert not file.exists()
        again = confirm(owner.client, dataset_id)
        assert (again.status_code, again.json()["code"]) == (409, "file_removed")


def test_a_faulty_confirmation_is_notified_once_for_each_fault(live: Live, owner: Member) -> None:
    created = data(announce(owner.client, chat_file(), name="Half a file"))
    dataset_id = created["dataset"]["id"]
    for _ in range(2):
        assert confirm(owner.client, dataset_id).json()["code"] == "upload_incomplete"
    file = live.settings.data / "objects" / "lora-datasets" / created["storagePath"]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"{}\n")
    assert confirm(owner.client, dataset_id).json()["code"] == "size_mismatch"
    told = data(owner.client.get("/api/notifications"))["items"]
    assert {(item["type"], item["action_url"]) for item in told} == {("dataset_error", f"/datasets/{dataset_id}")}
    messages = sorted(item["message"] for item in told)
    assert len(messages) == 2
    assert "has not arrived" in messages[0] + messages[1]
    assert "3 bytes arrived" in messages[0] + messages[1]


def test_a_vanished_file_is_told_when_it_is_validated_again(live: Live, owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file())
    (live.settings.data / "objects" / "lora-datasets" / dataset["storage_path"]).unlink()
    answer = confirm(owner.client, dataset["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "object_missing")
    after = get(owner.client, dataset["id"])
    assert (after["status"], after["training_ready"]) == ("error", False)


def test_a_file_damaged_on_the_disk_is_found(live: Live, owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file())
    file = live.settings.data / "objects" / "lora-datasets" / dataset["storage_path"]
    times = file.stat()
    file.write_bytes(file.read_bytes().replace(b"About", b"Maybe"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as bit rot does it: no time changes
    confirm(owner.client, dataset["id"])
    after = validated(owner.client, dataset["id"])
    assert (after["status"], after["error_code"]) == ("error", "file_damaged")
    assert file.exists()


def test_changes_reach_those_who_watch(owner: Member, pg_urls: DatabaseUrls) -> None:
    dataset = upload_and_validate(owner.client, chat_file())
    with psycopg.connect(libpq(pg_urls.owner)) as connection:
        rows = connection.execute(
            "select topic, kind, payload->>'status' from events where workspace_id = %s order by id",
            [owner.workspace_id],
        ).fetchall()
        audit = connection.execute(
            "select action from audit_log where target_id = %s order by created_at", [dataset["id"]]
        ).fetchall()
    seen = [(kind, status) for topic, kind, status in rows if topic == f"dataset:{dataset['id']}"]
    assert seen[0] == ("dataset.created", "uploading")
    assert ("dataset.updated", "validating") in seen
    assert seen[-1] == ("dataset.updated", "ready")
    assert [row for row in rows if row[0] == "datasets"]
    assert [action for (action,) in audit] == ["dataset.created", "dataset.confirmed"]


def test_twenty_creations_at_once_never_pass_the_quota(owner: Member, pg_urls: DatabaseUrls) -> None:
    content = chat_file()
    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:
        connection.execute(
            "update workspaces set storage_quota_bytes = %s where id = %s", [5 * len(content), owner.workspace_id]
        )

    async def all_at_once() -> list[int]:
        async with httpx2.AsyncClient(
            base_url=owner.client.base_url, headers=owner.client.headers, timeout=60
        ) as client:
            body = {"name": "n", "file_name": "f.jsonl", "file_size": len(content)}
            answers = await asyncio.gather(*(client.post("/api/datasets", json=body) for _ in range(20)))
        return [answer.status_code for answer in answers]

    codes = asyncio.run(all_at_once())
    assert sorted(codes) == [201] * 5 + [507] * 15
