"""A workspace's own quota: set by whoever runs the installation, on the command line; shown to its members."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from brightrun.cli.workspaces import parse_size
from brightrun.db.session import Database
from brightrun.errors import InvalidInputError
from installation import ROLE_PREFIX, TEST_SECRET
from live import Live, Member
from page_client import PageClient, words

GB = 1000**3


@pytest.fixture
def brightrun(live: Live, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """The command line beside the running server, on its database."""
    environment = {
        "DATABASE_URL": live.urls.owner.render_as_string(hide_password=False),
        "BRIGHTRUN_DATABASE_ROLE_PREFIX": ROLE_PREFIX,
        "BRIGHTRUN_SECRET_KEY": TEST_SECRET.decode(),
        "BRIGHTRUN_DATA": str(tmp_path),
    }

    def run(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "brightrun", *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [
        ("20GB", 20 * GB), ("1.5 gb", 3 * GB // 2), ("500MiB", 500 * 1024**2), ("1kib", 1024), ("2TiB", 2 * 1024**4),
        ("4096", 4096), ("4096b", 4096), ("3m", 3_000_000), ("none", 0), ("Default", None),
    ],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(written: str, bytes_: int | None):
    assert parse_size(written) == bytes_


@pytest.mark.parametrize("written", ["", "0", "much", "-1", "1ib", "5 xb", "9999999TiB", "1e9"])
def test_what_is_no_size_is_refused(written: str):
    with pytest.raises(InvalidInputError):
        parse_size(written)


def test_an_operator_sets_a_quota_and_members_see_it(live: Live, brightrun: Any):
    owner = live.new_workspace("Quota place")
    answer = brightrun("workspaces", "quota", str(owner.workspace_id), "20GB", "--json")
    assert json.loads(answer.stdout) == {
        "id": str(owner.workspace_id), "name": "Quota place", "owners": [owner.email], "used_bytes": 0,
        "quota_bytes": 20 * GB, "own_quota": True, "max_running_jobs": 3, "own_max_running_jobs": False,
    }  # fmt: skip
    path = f"/api/workspaces/{owner.workspace_id}/storage"
    shown = owner.client.get(path).json()["data"]["storage"]
    assert shown == {"used_bytes": 0, "quota_bytes": 20 * GB, "own_quota": True}
    with PageClient(live, owner) as browser:
        assert "of 20.0 GB used (a quota set for this workspace)" in words(browser.get("/settings/workspace"))
    [entry] = owner.client.get("/api/audit?action=workspace.quota_set").json()["data"]["items"]
    assert (entry["actor"], entry["details"]["after"]) == (None, "20000000000 bytes")
    listed = json.loads(brightrun("workspaces", "list", "--json").stdout)
    assert {"name": "Quota place", "quota_bytes": 20 * GB}.items() <= next(
        row.items() for row in listed["items"] if row["id"] == str(owner.workspace_id)
    )
    brightrun("workspaces", "quota", str(owner.workspace_id), "1")
    body = {"name": "set", "file_name": "a.jsonl", "file_size": 10}
    refused = owner.client.post("/api/datasets", json=body)
    assert (refused.status_code, refused.json()["code"]) == (507, "quota_exceeded")
    assert "(default)" in brightrun("workspaces", "quota", str(owner.workspace_id), "default").stdout
    assert owner.client.post("/api/datasets", json=body).status_code == 201
    assert not owner.client.get(path).json()["data"]["storage"]["own_quota"]


def test_an_unknown_workspace_and_a_size_that_is_none_are_one_sentence(live: Live, brightrun: Any):
    for arguments, said in ((("nowhere",), "no workspace"), ((str(live.new_workspace().workspace_id), "much"), "size")):
        answer = brightrun("workspaces", "quota", *arguments, check=False)
        assert answer.returncode == 1
        assert answer.stdout == ""
        assert said in answer.stderr
        assert "Traceback" not in answer.stderr


@pytest.mark.anyio
async def test_the_application_itself_cannot_change_a_quota(owner: Member, app_db: Database, worker_db: Database):
    for database in (app_db, worker_db):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with database.transaction(user_id=owner.user_id, workspace_id=owner.workspace_id) as session:
                await session.execute(text("update workspaces set storage_quota_bytes = 1"))


def test_an_operator_sets_how_many_jobs_a_workspace_has_at_work(live: Live, brightrun: Any):
    owner = live.new_workspace("Eager place")
    named = str(owner.workspace_id)
    assert "3 job(s) at once (default)" in brightrun("workspaces", "running", named).stdout
    answer = json.loads(brightrun("workspaces", "running", named, "5", "--json").stdout)
    assert (answer["max_running_jobs"], answer["own_max_running_jobs"]) == (5, True)
    assert owner.client.get("/api/jobs/queue").json()["data"]["queue"]["limit"] == 5
    assert "any number of jobs at once" in brightrun("workspaces", "running", named, "none").stdout
    assert owner.client.get("/api/jobs/queue").json()["data"]["queue"]["limit"] is None
    for wrong in ("0", "-1", "many", "1.5"):
        assert brightrun("workspaces", "running", named, "--", wrong, check=False).returncode == 1
    [first, *_rest] = owner.client.get("/api/audit?action=workspace.running_jobs_set").json()["data"]["items"]
    assert (first["details"]["before"], first["details"]["after"]) == ("5 jobs", "no limit")
