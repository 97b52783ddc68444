"""The trash is emptied after its time: files first of all, and without a trace elsewhere being broken."""

from datetime import timedelta
from typing import Any

import pytest
from model_steps import Finished, data, finish_job
from sqlalchemy import update

from brightrun.clock import utcnow
from brightrun.models.tables import ModelArtifact
from brightrun.models.tasks import purge_deleted, register
from brightrun.platform import Platform
from brightrun.storage import Bucket

pytestmark = pytest.mark.anyio


async def deleted_days_ago(finished: Finished, days: int) -> None:
    model_id = finished.job["model_id"]
    data(finished.owner.client.delete(f"/api/models/{model_id}"))

    async def change(database: Any) -> None:
        async with database.transaction(workspace_id=finished.owner.workspace_id) as session:
            moment = utcnow() - timedelta(days=days)
            await session.execute(update(ModelArtifact).where(ModelArtifact.id == model_id).values(deleted_at=moment))

    finished.live.run(change)


def objects(platform: Platform, finished: Finished) -> int:
    folder = f"{finished.owner.workspace_id}/models/{finished.job_id}"
    return len(list(platform.store.list_objects(Bucket.LORA_MODELS, folder)))


async def test_a_model_deleted_long_ago_goes_for_good_and_its_job_stays(finished: Finished, worker_platform: Platform):
    await register(worker_platform, **finished.arguments)
    await deleted_days_ago(finished, 31)
    await purge_deleted(worker_platform)
    assert objects(worker_platform, finished) == 0
    assert data(finished.owner.client.get("/api/models", params={"deleted": True}))["total"] == 0
    job = finished.job
    assert (job["status"], job["model_id"]) == ("completed", None)


async def test_a_model_in_the_trash_for_a_shorter_time_stays(finished: Finished, worker_platform: Platform):
    await register(worker_platform, **finished.arguments)
    await deleted_days_ago(finished, 29)
    await purge_deleted(worker_platform)
    model_id = data(finished.owner.client.get("/api/models", params={"deleted": True}))["items"][0]["id"]
    assert data(finished.owner.client.post(f"/api/models/{model_id}/restore"))["model"]["id"] == model_id
    assert finished.owner.client.get(f"/api/models/{model_id}/download").status_code == 200


async def test_a_purged_version_number_is_not_given_again(finished: Finished, worker_platform: Platform, trained_run):
    await register(worker_platform, **finished.arguments)
    await deleted_days_ago(finished, 31)
    await purge_deleted(worker_platform)
    later = finish_job(finished.live, finished.owner, trained_run, dataset_id=finished.dataset_id)
    await register(worker_platform, **later.arguments)
    assert later.model()["version"] == "1.1.0"
    assert later.model()["parent_model_id"] is None


async def test_a_purge_that_is_killed_before_it_is_written_down_is_repeated(
    finished: Finished, worker_platform: Platform, monkeypatch: pytest.MonkeyPatch
):
    await register(worker_platform, **finished.arguments)
    await deleted_days_ago(finished, 31)
    store = worker_platform.store
    remove = store.delete_prefix

    def remove_and_break(bucket, prefix):
        remove(bucket, prefix)
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete_prefix", remove_and_break)
        await purge_deleted(worker_platform)
    assert data(finished.owner.client.get("/api/models", params={"deleted": True}))["total"] == 1
    await purge_deleted(worker_platform)
    assert data(finished.owner.client.get("/api/models", params={"deleted": True}))["total"] == 0
