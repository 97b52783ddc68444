"""A BrightRun of its own for training tests: what runs and what waits is theirs to say."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
from job_steps import AddDataset, adviser_file, sha256

from brightrun.datasets.tables import Dataset
from brightrun.db.roles import DatabaseUrls
from brightrun.db.session import Database
from brightrun.ids import uuid7
from brightrun.settings import Settings
from brightrun.storage import Bucket, open_store
from live import Live, Member, live_server

SECRET = b"the tests' secret key"


@pytest.fixture(scope="session")
def training_urls(new_database: Callable[[], AbstractContextManager[DatabaseUrls]]) -> Iterator[DatabaseUrls]:
    with new_database() as urls:
        yield urls


@pytest.fixture(scope="session")
def quiet(training_urls: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server without a worker: jobs stay where they are put."""
    settings = Settings(data=tmp_path_factory.mktemp("quiet"), min_free_disk_bytes=0)
    with live_server(training_urls, settings, SECRET, worker=False) as running:
        yield running


@pytest.fixture(scope="session")
def running(
    new_database: Callable[[], AbstractContextManager[DatabaseUrls]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """A whole BrightRun whose worker supervises jobs."""
    settings = Settings(
        database_role_prefix="brtest", data=tmp_path_factory.mktemp("running"), min_free_disk_bytes=0,
        max_running_jobs=2, worker_heartbeat_s=1,
    )  # fmt: skip
    with new_database() as urls, live_server(urls, settings, SECRET) as live:
        yield live


@dataclass
class Working:
    """The owner of a new workspace on `running`."""

    live: Live
    member: Member

    def dataset(self, content: bytes | None = None, **fields: Any) -> str:
        return _add_dataset(self.live, self.member, content, **fields)


@pytest.fixture
def working(running: Live) -> Working:
    return Working(running, running.new_workspace())


@pytest.fixture
def trainer_owner(quiet: Live) -> Member:
    """The owner of a new workspace on `quiet`."""
    return quiet.new_workspace()


def _add_dataset(live: Live, member: Member, content: bytes | None = None, **fields: Any) -> str:
    """A dataset as a validation leaves it, with its file in the store; the id."""
    content = adviser_file() if content is None else content
    dataset_id = uuid7()
    path = f"{member.workspace_id}/datasets/{dataset_id}/adviser.jsonl"
    store = open_store(live.settings, public_url=live.url, secret=live.secret)
    store.put_bytes(Bucket.LORA_DATASETS, path, content)
    values: dict[str, Any] = {
        "status": "ready",
        "training_ready": True,
        "format": "brightrun_lora_v3",
        "sha256": sha256(content),
        "validated_at": None,
        "total_training_pairs": 24,
        "total_conversations": 12,
        "total_tokens": 1500,
        "tokens_source": "estimated",
    } | fields

    async def add(database: Database) -> None:
        from brightrun.clock import utcnow

        async with database.transaction(user_id=member.user_id, workspace_id=member.workspace_id) as session:
            session.add(
                Dataset(
                    id=dataset_id,
                    workspace_id=member.workspace_id,
                    created_by=member.user_id,
                    name="Adviser",
                    file_name="adviser.jsonl",
                    file_size=len(content),
                    storage_bucket="lora-datasets",
                    storage_path=path,
                    **(values | {"validated_at": utcnow()}),
                )
            )

    live.run(add)
    return str(dataset_id)


@pytest.fixture
def dataset_id(quiet: Live, trainer_owner: Member) -> str:
    """A dataset that is ready for training."""
    return _add_dataset(quiet, trainer_owner)


@pytest.fixture(scope="session")
def add_dataset() -> AddDataset:
    return _add_dataset
