"""What survives: overtaken runs, vanished workers, full disks, uploads nobody confirmed, the end of the trash."""

import asyncio
import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest
from dataset_steps import (
    announce,
    chat_file,
    confirm,
    data,
    get,
    put,
    upload,
    upload_and_validate,
    validated,
    wait_for,
)

from brightrun.clock import utcnow
from brightrun.datasets import repository, sweeper, tasks
from brightrun.datasets.validation_process import ValidatorDiedError
from brightrun.datasets.validation_run import Outcome, Progress, Subject, run_validation
from brightrun.db.roles import DatabaseUrls, libpq
from brightrun.db.session import Database
from brightrun.errors import StorageFullError
from brightrun.ids import uuid7
from brightrun.platform import Platform
from brightrun.queue import TaskFailure
from brightrun.storage import Bucket, open_store
from brightrun.validation import ValidationCancelled
from live import Live, Member, live_server

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def sql(pg_urls: DatabaseUrls) -> Iterator[Sql]:
    """SQL as the owner of the tables, committed at once."""
    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:

        def run(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

        yield run


def as_worker(live: Live, work: Callable[[Platform], Awaitable[Any]], **settings: Any) -> Any:
    """Run `work` as a worker would, beside the live one."""

    async def main() -> Any:
        database = Database(live.urls.worker.render_as_string(hide_password=False), pool_size=2)
        changed = live.settings.model_copy(update=settings)
        store = open_store(changed, public_url=live.url, secret=live.secret)
        try:
            return await work(
                Platform(settings=changed, secret=live.secret, db=database, store=store, public_url=live.url)
            )
        finally:
            await database.dispose()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()


def make_validating(sql: Sql, dataset_id: str, *, silent: timedelta, sweeps: int = 0) -> None:
    """As a worker leaves it that vanished together with its job in the queue."""
    sql(
        "update datasets set status = 'validating', validation_attempt = validation_attempt + 1,"
        " validation_sweeps = %s, validation_heartbeat_at = now() - %s where id = %s",
        sweeps,
        silent,
        dataset_id,
    )


def test_a_validation_that_the_queue_lost_is_asked_for_again(live: Live, owner: Member, sql: Sql) -> None:
    dataset_id = upload(owner.client, chat_file())
    make_validating(sql, dataset_id, silent=timedelta(hours=1))
    as_worker(live, sweeper.sweep_stuck)
    assert validated(owner.client, dataset_id)["status"] == "ready"


def test_a_validation_with_signs_of_life_is_left_alone(live: Live, owner: Member, sql: Sql) -> None:
    dataset_id = upload(owner.client, chat_file())
    make_validating(sql, dataset_id, silent=timedelta(seconds=5))
    as_worker(live, sweeper.sweep_stuck)
    assert get(owner.client, dataset_id)["status"] == "validating"
    assert sql("select validation_sweeps from datasets where id = %s", dataset_id) == [(0,)]


def test_a_validation_that_never_ends_is_given_up_with_a_notice(live: Live, owner: Member, sql: Sql) -> None:
    dataset_id = upload(owner.client, chat_file())
    make_validating(sql, dataset_id, silent=timedelta(hours=1), sweeps=5)
    as_worker(live, sweeper.sweep_stuck)
    dataset = get(owner.client, dataset_id)
    assert (dataset["status"], dataset["error_code"]) == ("error", "validation_lost")
    assert data(owner.client.get("/api/notifications"))["items"][0]["type"] == "dataset_error"


def test_a_sweep_takes_at_most_ten(live: Live, owner: Member, sql: Sql) -> None:
    ids = [data(announce(owner.client, chat_file()))["dataset"]["id"] for _ in range(12)]
    for dataset_id in ids:
        make_validating(sql, dataset_id, silent=timedelta(days=-1))  # where the live worker's own sweep does not look

    async def discover(platform: Platform) -> int:
        async with platform.db.transaction() as session:
            return len(await repository.stuck(session, utcnow() + timedelta(days=2)))

    assert as_worker(live, discover) == 10
    sql("delete from datasets where id = any(%s::uuid[])", ids)


def test_unconfirmed_uploads_are_swept_after_a_day(live: Live, owner: Member, sql: Sql) -> None:
    content = chat_file()
    created = data(announce(owner.client, content))
    dataset_id, native = created["dataset"]["id"], created["multipart"]["upload_id"].rpartition(".")[2]
    put(created, content)
    young = data(announce(owner.client, content))["dataset"]["id"]
    sql("update datasets set upload_renewed_at = now() - interval '25 hours' where id = %s", dataset_id)
    as_worker(live, sweeper.sweep_uploads)

    dataset = get(owner.client, dataset_id)
    assert (dataset["status"], dataset["error_code"]) == ("error", "upload_expired")
    assert not (live.settings.data / "objects" / "lora-datasets" / created["storagePath"]).exists()
    assert not (live.settings.data / "uploads" / native).exists()
    assert get(owner.client, young)["status"] == "uploading"
    assert data(owner.client.get("/api/datasets/stats"))["stats"]["used_bytes"] == len(content)
    assert confirm(owner.client, dataset_id).json()["code"] == "file_removed"
    as_worker(live, sweeper.sweep_uploads)
    (told,) = data(owner.client.get("/api/notifications"))["items"]
    assert (told["type"], told["action_url"]) == ("dataset_error", f"/datasets/{dataset_id}")
    assert "not confirmed within 24 hours" in told["message"]


def test_whoever_goes_on_with_an_upload_is_not_swept(live: Live, owner: Member, sql: Sql) -> None:
    content = chat_file()
    created = data(announce(owner.client, content))
    dataset_id = created["dataset"]["id"]
    sql("update datasets set upload_renewed_at = now() - interval '25 hours' where id = %s", dataset_id)
    assert owner.client.get(f"/api/datasets/{dataset_id}/upload").status_code == 200
    as_worker(live, sweeper.sweep_uploads)
    assert get(owner.client, dataset_id)["status"] == "uploading"


def test_a_multipart_upload_of_no_dataset_is_aborted(live: Live, owner: Member) -> None:
    async def leave_and_sweep(platform: Platform) -> bool:
        stray = platform.store.start_multipart(
            Bucket.LORA_DATASETS,
            f"{owner.workspace_id}/datasets/{uuid7()}/gone.jsonl",
            size=10,
            part_size=10,
            expires_s=60,
        )
        folder = live.settings.data / "uploads" / stray.upload_id.rpartition(".")[2]
        assert folder.exists()
        await sweeper._abort_strays(platform, utcnow() + timedelta(seconds=1))
        return folder.exists()

    kept = data(announce(owner.client, chat_file()))
    assert as_worker(live, leave_and_sweep) is False
    assert owner.client.get(f"/api/datasets/{kept['dataset']['id']}/upload").status_code == 200


def test_the_trash_is_purged_after_the_retention_period(live: Live, owner: Member, sql: Sql) -> None:
    old = upload_and_validate(owner.client, b"not json\n")  # has an issue list, too
    new = upload_and_validate(owner.client, chat_file())
    for dataset in (old, new):
        owner.client.delete(f"/api/datasets/{dataset['id']}")
    sql("update datasets set deleted_at = now() - interval '31 days' where id = %s", old["id"])
    as_worker(live, sweeper.purge_deleted)

    assert sql("select count(*) from datasets where id = %s", old["id"]) == [(0,)]
    objects = live.settings.data / "objects" / "lora-datasets" / str(owner.workspace_id)
    assert not list(objects.rglob(f"*{old['id']}*"))
    assert owner.client.post(f"/api/datasets/{old['id']}/restore").status_code == 404
    assert owner.client.post(f"/api/datasets/{new['id']}/restore").status_code == 200
    assert owner.client.get(f"/api/datasets/{new['id']}/download").status_code == 307


def test_a_purged_dataset_that_a_job_was_trained_on_keeps_its_row_without_bytes(
    live: Live, owner: Member, sql: Sql
) -> None:
    dataset = upload_and_validate(owner.client, chat_file())
    sql(
        "insert into training_jobs (id, workspace_id, dataset_id, dataset_sha256, name, preset_id, base_model, seed,"
        " hyperparameters, gpu_config, price_per_hour, estimate, total_epochs, status)"
        " values (%s, %s, %s, %s, 'Done', 'balanced', 'tiny', 1, '{}', '{}', 0, '{}', 1, 'cancelled')",
        uuid7(),
        owner.workspace_id,
        dataset["id"],
        dataset["sha256"],
    )
    owner.client.delete(f"/api/datasets/{dataset['id']}")
    sql("update datasets set deleted_at = now() - interval '31 days' where id = %s", dataset["id"])
    for _ in range(2):
        as_worker(live, sweeper.purge_deleted)
    assert sql("select error_code, total_records from datasets where id = %s", dataset["id"]) == [("purged", 3)]
    assert not (live.settings.data / "objects" / "lora-datasets" / dataset["storage_path"]).exists()
    assert owner.client.post(f"/api/datasets/{dataset['id']}/restore").json()["code"] == "file_removed"


def test_an_overtaken_run_changes_nothing(live: Live, owner: Member, sql: Sql) -> None:
    dataset = upload_and_validate(owner.client, chat_file())
    before = sql("select row_to_json(d)::text from datasets d where id = %s", dataset["id"])
    late = dataset["validation_attempt"]
    arguments = {"workspace_id": str(owner.workspace_id), "dataset_id": dataset["id"], "attempt": late}
    as_worker(live, lambda platform: tasks.validate(platform, **arguments))
    failure = TaskFailure("worker_lost", "gone", 5)
    as_worker(live, lambda platform: tasks.on_failure(platform, failure, **arguments))
    assert sql("select row_to_json(d)::text from datasets d where id = %s", dataset["id"]) == before


def test_two_runs_of_one_attempt_have_one_outcome(live: Live, owner: Member, sql: Sql) -> None:
    """A frozen worker wakes up while another does its work."""
    dataset_id = upload(owner.client, chat_file(200))
    make_validating(sql, dataset_id, silent=timedelta(0))
    [(attempt,)] = sql("select validation_attempt from datasets where id = %s", dataset_id)

    async def twice(platform: Platform) -> None:
        arguments = {"workspace_id": str(owner.workspace_id), "dataset_id": dataset_id, "attempt": attempt}
        await asyncio.gather(tasks.validate(platform, **arguments), tasks.validate(platform, **arguments))

    as_worker(live, twice)
    assert get(owner.client, dataset_id)["status"] == "ready"
    assert len(data(owner.client.get("/api/notifications"))["items"]) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, "worker_lost"),
        (StorageFullError("The disk is full.", code="disk_full"), "disk_full"),
        (OSError(errno.EIO, "Input/output error"), "file_unreadable"),
        (ValidatorDiedError("The process crashed."), "validation_crashed"),
        (RuntimeError("a bug"), "task_failed"),
    ],
)
def test_a_validation_that_is_given_up_says_why(
    live: Live, owner: Member, sql: Sql, error: Exception | None, code: str
) -> None:
    dataset_id = upload(owner.client, chat_file())
    make_validating(sql, dataset_id, silent=timedelta(0))
    [(attempt,)] = sql("select validation_attempt from datasets where id = %s", dataset_id)
    given = getattr(error, "code", "worker_lost" if error is None else "task_failed")
    failure = TaskFailure(given, "It did not work; do this.", 5, error)
    for _ in range(2):  # the hook may be called twice
        as_worker(
            live,
            lambda platform: tasks.on_failure(
                platform, failure, workspace_id=str(owner.workspace_id), dataset_id=dataset_id, attempt=attempt
            ),
        )
    dataset = get(owner.client, dataset_id)
    assert (dataset["status"], dataset["error_code"]) == ("error", code)
    assert dataset["error_message"]
    assert len(data(owner.client.get("/api/notifications"))["items"]) == 1
    assert data(confirm(owner.client, dataset_id))["dataset"]["status"] == "validating", "it can be tried again"
    assert validated(owner.client, dataset_id)["status"] == "ready"


# --- the blocking part, on a store that misbehaves -------------------------------------------------------------------


class _Store:
    """Answers like an object store; what reading does is the test's choice."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.stream = stream

    def head(self, _bucket: Bucket, _path: str) -> Any:
        class Info:
            sha256 = None

        return Info()

    def open_read(self, _bucket: Bucket, _path: str) -> io.BufferedIOBase:
        return self.stream

    def put_bytes(self, _bucket: Bucket, _path: str, _data: bytes) -> None:
        pass

    def put_file(self, _bucket: Bucket, path: str, source: Path) -> None:
        if path.endswith(".jsonl"):
            self.stored = (path, source.read_bytes())


class _Failing(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")


def subject(content: bytes, **changes: Any) -> Subject:
    facts: dict[str, Any] = {
        "workspace_id": str(uuid7()),
        "dataset_id": str(uuid7()),
        "attempt": 1,
        "bucket": Bucket.LORA_DATASETS,
        "path": "w/datasets/d/f.jsonl",
        "file_name": "f.jsonl",
        "file_size": len(content),
        "declared_format": None,
        "declared_sha256": None,
    }
    return Subject(**facts | changes)


def run(content: bytes, folder: Path, store: Any = None, progress: Progress | None = None) -> Outcome:
    store = store or _Store(io.BytesIO(content))  # type: ignore[arg-type]
    return run_validation(store, subject(content), progress or Progress(), folder)


def test_a_file_that_cannot_be_read_to_its_end_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(tasks.UnreadableError, match="Input/output error") as caught:
        run(b"x", tmp_path, _Store(io.BufferedReader(_Failing())))
    assert caught.value.retryable
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_issues_are_listed_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    from brightrun.datasets.issue_list import IssueListWriter
    from brightrun.datasets.validation_run import _room_for
    from brightrun.formats.issues import make_issue

    (tmp_path / "list.jsonl").symlink_to("/dev/full")
    issues = IssueListWriter(tmp_path, "list")
    with pytest.raises(StorageFullError, match="issues") as caught, _room_for(issues), issues:
        issues.write(make_issue("broken_json", "x"))
    assert caught.value.code == "disk_full"


def test_a_cancelled_run_ends_at_the_next_block_and_leaves_nothing(tmp_path: Path) -> None:
    progress = Progress()
    progress.cancelled.set()
    with pytest.raises(ValidationCancelled):
        run(chat_file(), tmp_path, progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_workers_left_in_the_scratch_folder_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "validation-x").mkdir()
    for name in ("validation-x/issues-1.jsonl", "issues-2.spool", "issues-3.jsonl"):
        (tmp_path / name).write_text("x")
    sweeper._clear_scratch(tmp_path, utcnow() - timedelta(hours=1))
    assert len(list(tmp_path.iterdir())) == 3
    sweeper._clear_scratch(tmp_path, utcnow() + timedelta(hours=1))
    assert list(tmp_path.iterdir()) == []


def test_the_complete_issue_list_is_stored_and_the_scratch_file_goes(tmp_path: Path) -> None:
    content = b"not json\n" * 5 + chat_file()
    store = _Store(io.BytesIO(content))  # type: ignore[arg-type]
    outcome = run(content, tmp_path, store)
    assert outcome.code == "validation_failed"
    path, stored = store.stored
    assert path == outcome.issues_path
    assert [json.loads(line)["line"] for line in stored.splitlines()] == [1, 2, 3, 4, 5]
    assert list(tmp_path.iterdir()) == []


# --- kill -9 ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_validation_survives_the_end_of_its_worker(
    fresh_pg_urls: DatabaseUrls, live: Live, tmp_path: Path, ending: signal.Signals
) -> None:
    settings = live.settings.model_copy(update={"data": tmp_path})
    content = chat_file(100_000)  # seconds of work

    def start_worker() -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BRIGHTRUN_")}
        environment |= {
            "BRIGHTRUN_WORKER_DATABASE_URL": fresh_pg_urls.worker.render_as_string(hide_password=False),
            "BRIGHTRUN_SECRET_KEY": live.secret.decode(),
            "BRIGHTRUN_STALLED_WORKER_S": "3",
            "BRIGHTRUN_WORKER_HEARTBEAT_S": "0.5",
        }
        return subprocess.Popen([sys.executable, "-m", "brightrun", "worker", "--data", str(tmp_path)], env=environment)

    with live_server(fresh_pg_urls, settings, live.secret, worker=False) as server:
        client = server.new_workspace().client
        created = data(announce(client, content))
        httpx2.put(created["uploadUrl"], content=content, timeout=120)
        dataset_id = str(UUID(created["dataset"]["id"]))
        confirm(client, dataset_id)
        first = start_worker()
        try:
            wait_for(lambda: get(client, dataset_id)["validated_bytes"] > 0, what="progress")
            os.kill(first.pid, ending)
            first.wait(30)
        finally:
            first.kill()
            first.wait()
        assert get(client, dataset_id)["status"] == "validating", "killed too late for this test to mean anything"
        second = start_worker()
        try:
            dataset = validated(client, dataset_id)
        finally:
            second.terminate()
            second.wait(30)
        assert dataset["status"] == "ready"
        assert dataset["total_records"] == 100_000
        notifications = data(client.get("/api/notifications"))["items"]
        assert [item["type"] for item in notifications] == ["dataset_ready"]
