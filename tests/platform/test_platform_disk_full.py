"""A full disk: a clear error at each place, nothing half-stored, no row lost, and work again when there is room.

The disk is a small file system of its own, filled to its last byte.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from platform_steps import announce, confirm, data, dataset, put_parts, records, validated

from brightrun.db.roles import DatabaseUrls
from brightrun.settings import MIB
from live import Live, live_server
from up_process import Up
from waiting import eventually

Disk = Callable[[str, int], Path]


class Ballast:
    """Takes the free space of a file system, all but `leave` bytes, until it is dropped."""

    def __init__(self, folder: Path, *, leave: int = 0) -> None:
        self._file = folder / "ballast"
        with self._file.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
                file.flush()
        if leave:
            os.truncate(self._file, max(0, self._file.stat().st_size - leave))

    def drop(self) -> None:
        self._file.unlink(missing_ok=True)


@pytest.fixture
def small(live: Live, fresh_pg_urls: DatabaseUrls, small_disk: Disk) -> Iterator[Live]:
    """A platform whose data directory has 32 MB."""
    settings = live.settings.model_copy(update={"data": small_disk("objects", 32), "upload_part_bytes": 5 * MIB})
    with live_server(fresh_pg_urls, settings, live.secret) as running:
        yield running


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_upload_into_a_full_disk_is_507_keeps_nothing_and_works_when_there_is_room(small: Live) -> None:
    client, folder = small.new_workspace().client, small.settings.data
    content = records(100, words=20_000)
    assert 8 * MIB < len(content) < 12 * MIB
    created = announce(client, len(content))
    before = files_below(folder)
    ballast = Ballast(folder, leave=3 * MIB)
    refused = httpx2.put(created["uploadUrl"], content=content, timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    assert "Free some space" in refused.json()["error"]
    assert set(files_below(folder)) - {"ballast"} <= set(before), "nothing is half-stored"
    assert dataset(client, created["dataset"]["id"])["status"] == "uploading", "the row waits for its file"
    assert small.client().get("/readyz").status_code == 200

    ballast.drop()
    assert httpx2.put(created["uploadUrl"], content=content, timeout=60).status_code == 200
    confirm(client, created["dataset"]["id"])
    assert validated(client, created["dataset"]["id"])["status"] == "ready"


def test_parts_that_fit_are_kept_on_a_full_disk_and_the_rest_goes_on_later(small: Live) -> None:
    client, folder = small.new_workspace().client, small.settings.data
    content = records(100, words=20_000)
    created = announce(client, len(content))
    first = created["multipart"]["parts"][0]
    assert httpx2.put(first["url"], content=content[: first["size"]], timeout=60).status_code == 200
    ballast = Ballast(folder, leave=1 * MIB)
    second = created["multipart"]["parts"][1]
    refused = httpx2.put(second["url"], content=content[first["size"] :][: second["size"]], timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")

    ballast.drop()
    status = data(client.get(f"/api/datasets/{created['dataset']['id']}/upload"))["multipart"]
    assert [part["number"] for part in status["stored"]] == [1], "an accepted part is never lost"
    put_parts(status, content)
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    assert validated(client, created["dataset"]["id"])["status"] == "ready"


@pytest.mark.parametrize("leave", [0, 256 * 1024], ids=["not-a-byte", "a-little"])
def test_a_validation_without_room_for_its_issues_ends_in_error_and_can_be_repeated(small: Live, leave: int) -> None:
    client, folder = small.new_workspace().client, small.settings.data
    content = records(1) + b"not json\n" * 20_000  # its list of issues has megabytes
    created = announce(client, len(content))
    assert httpx2.put(created["uploadUrl"], content=content).status_code == 200
    ballast = Ballast(folder, leave=leave)
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    found = validated(client, created["dataset"]["id"])
    assert (found["status"], found["error_code"]) == ("error", "disk_full")
    assert "room" in found["error_message"] or "space" in found["error_message"], found["error_message"]
    assert not list((folder / "scratch").glob("*")), "nothing is left lying about"
    notices = data(client.get("/api/notifications"))["items"]
    assert [notice["type"] for notice in notices] == ["dataset_error"]

    ballast.drop()
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    found = validated(client, created["dataset"]["id"])
    assert (found["error_code"], found["errors_total"]) == ("validation_failed", 20_000), "no row is lost"
    issues = client.get(f"/api/datasets/{created['dataset']['id']}/issues/download").headers["location"]
    assert httpx2.get(issues).text.count("\n") == 20_000


@pytest.mark.slow
def test_a_database_without_room_refuses_writes_with_507_and_keeps_all_it_accepted(
    data_of_up: Path, small_disk: Disk
) -> None:
    disk = small_disk("up/postgres", 250)
    up = Up(data_of_up)
    try:
        known = [announce(up.client, 10)["dataset"]["id"]]
        ballast = Ballast(disk)
        refusal: httpx2.Response | None = None
        for _ in range(400):
            body = {"name": "n", "file_name": "f", "file_size": 3, "description": secrets.token_hex(4_900)}
            answer = up.client.post("/api/datasets", json=body)
            if answer.status_code != 201:
                refusal = answer
                break
            known.append(answer.json()["data"]["dataset"]["id"])
        assert refusal is not None, "the disk was never full"
        assert (refusal.status_code, refusal.json()["code"]) == (507, "storage_full"), refusal.text
        assert "database" in refusal.json()["error"]
        listed = up.client.get("/api/datasets", params={"limit": 1})
        assert (listed.status_code, data(listed)["total"]) == (200, len(known)), "reading goes on"

        ballast.drop()

        def writes_again() -> bool:
            made = up.client.post("/api/datasets", json={"name": "again", "file_name": "f", "file_size": 3})
            if made.status_code == 201:
                known.append(made.json()["data"]["dataset"]["id"])
            return made.status_code == 201

        eventually("writing again", writes_again)
        assert data(up.client.get("/api/datasets", params={"limit": 1}))["total"] == len(known), "no row is lost"
        assert all(up.client.get(f"/api/datasets/{dataset_id}").status_code == 200 for dataset_id in known)
    finally:
        up.stop()


@pytest.fixture
def data_of_up(data: Path) -> Path:
    return data / "up"


@pytest.mark.slow
def test_a_training_run_without_room_stops_with_a_reason_and_goes_on_when_there_is_some(
    data: Path, small_disk: Disk
) -> None:
    disk = small_disk("run", 120)
    source, run = data / "cases.jsonl", disk / "run"
    source.write_bytes(records(40))
    quick = [argument for value in ("epochs=1", "batch_size=8") for argument in ("--set", value)]
    prepare = ["trainer", "prepare", "--dataset", str(source), "--base-model", "tiny-random", "--preset", "custom"]
    done = subprocess.run(
        [sys.executable, "-m", "brightrun", *prepare, *quick, "--seed", "7", "--out", str(run)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def train() -> int:
        return subprocess.run(
            [sys.executable, "-m", "brightrun.trainer", str(run)], capture_output=True, check=False
        ).returncode

    ballast = Ballast(disk, leave=16 * 1024)
    assert train() == 70
    last = json.loads((run / "events.jsonl").read_text().splitlines()[-1])
    assert (last["type"], last["code"], last["resumable"]) == ("failed", "disk_full", True), last
    assert "Make room" in last["advice"]
    assert not (run / "adapter").exists(), "nothing half-made"
    ballast.drop()
    assert train() == 0
    assert (run / "adapter" / "adapter_model.safetensors").exists()
