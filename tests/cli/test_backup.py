"""Backup while running; restore into a new directory, into another database, and again after it was cut short.

The other database is served by processes that are started one by one, as in production: migrate, server, worker.
"""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from brightrun.db import dump
from brightrun.db.migrate import migrate
from brightrun.db.roles import DatabaseUrls, as_sqlalchemy, derive_urls, libpq
from brightrun.errors import ConflictError
from brightrun.ids import uuid7
from brightrun.storage import Bucket, open_store
from installation import TEST_SECRET, make_settings
from up_process import Up
from waiting import eventually

LINE = b'{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]}\n'
SECRET = "a secret that three processes share"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "brightrun", *arguments],
        env={**os.environ, "BRIGHTRUN_MIN_FREE_DISK_BYTES": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="brightrun-backup-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def upload(client: httpx2.Client, name: str) -> str:
    made = client.post("/api/datasets", json={"name": name, "file_name": "x.jsonl", "file_size": len(LINE)}).json()
    assert httpx2.put(made["data"]["uploadUrl"], content=LINE).is_success
    dataset_id = str(made["data"]["dataset"]["id"])
    assert client.post(f"/api/datasets/{dataset_id}/confirm").is_success
    validated(client, dataset_id)
    return dataset_id


def validated(client: httpx2.Client, dataset_id: str) -> None:
    def settled() -> bool:
        found = client.get(f"/api/datasets/{dataset_id}").json()["data"]["dataset"]
        return found["status"] in {"ready", "error"} and found["total_records"] == 1

    eventually("validated", settled)


@pytest.fixture(scope="module")
def saved(directory: Path) -> tuple[Path, str, str]:
    """(backup, a token that never ends, a dataset's id): taken from a running installation."""
    up = Up(directory / "first")
    try:
        dataset_id = upload(up.client, "kept")
        made = up.client.post("/api/tokens", json={"name": "t", "expires_in_days": None}).json()["data"]
        done = run("backup", str(directory / "saved"), "--data", str(directory / "first"))
        assert done.returncode == 0, done.stderr
        store = open_store(make_settings(data=directory / "first"), public_url=up.url, secret=TEST_SECRET)
        stored = sum(len(list(store.list_objects(bucket))) for bucket in Bucket)
        assert stored >= 1
        assert f"{stored} objects" in done.stdout
    finally:
        up.stop()
    return directory / "saved", made["token"], dataset_id


@contextmanager
def another_database(admin: str) -> Iterator[str]:
    """URL of an empty database whose owner is no superuser, and no role of the installation that was saved."""
    name = f"other_{secrets.token_hex(5)}"
    connection = psycopg.connect(libpq(as_sqlalchemy(admin)), autocommit=True)
    try:
        connection.execute(sql.SQL("create role {} login createrole password 'pw'").format(sql.Identifier(name)))
        connection.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(name)))
        url = make_url(admin).set(username=name, password="pw", database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        connection.close()


@contextmanager
def process(name: str, *arguments: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as stream:
        started = subprocess.Popen(
            [sys.executable, "-m", "brightrun", name, *arguments],
            env={**os.environ, "BRIGHTRUN_MIN_FREE_DISK_BYTES": "0", **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            assert started.wait(60) == 0, log.read_text()[-3000:]
        finally:
            started.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_backup_taken_while_running_comes_back_in_a_new_directory(saved: tuple[Path, str, str], directory: Path):
    backup, token, dataset_id = saved
    target = directory / "second place, ñ"
    done = run("restore", str(backup), "--data", str(target))
    assert done.returncode == 0, done.stderr
    up = Up(target)
    try:
        client = httpx2.Client(base_url=up.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        assert client.get(f"/api/datasets/{dataset_id}").json()["data"]["dataset"]["name"] == "kept"
        assert client.post(f"/api/datasets/{dataset_id}/confirm").is_success, "the object is there: checked again"
        validated(client, dataset_id)
    finally:
        up.stop()
    again = run("restore", str(backup), "--data", str(target))
    assert again.returncode == 1
    assert "has workspaces in it already" in again.stderr


def test_restored_into_a_database_of_ones_own_and_served_by_three_processes(
    saved: tuple[Path, str, str], directory: Path, postgres_admin: str
):
    backup, token, dataset_id = saved
    with another_database(postgres_admin) as url:
        data, port = directory / "third", free_port()
        shared = {
            "DATABASE_URL": url,
            "BRIGHTRUN_DATA": str(data),
            "BRIGHTRUN_SECRET_KEY": SECRET,
            "BRIGHTRUN_PORT": str(port),
        }
        done = run("restore", str(backup), **shared)
        assert done.returncode == 0, done.stderr
        prefix = re.search(r"BRIGHTRUN_DATABASE_ROLE_PREFIX=(\S+)", done.stderr)
        assert prefix, "says which roles the restored database has"
        shared["BRIGHTRUN_DATABASE_ROLE_PREFIX"] = prefix[1]
        assert run("migrate", **shared).returncode == 0
        log = directory / "third.log"
        with process("server", log=log, **shared), process("worker", log=log, **shared):
            client = httpx2.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=60
            )
            eventually("ready", lambda: client.get("/readyz").is_success)
            assert client.get(f"/api/datasets/{dataset_id}").json()["data"]["dataset"]["name"] == "kept"
            upload(client, "made by three processes")
        # The owner of the tables is bound by its own policies: it must be this database's owner that they name.
        with psycopg.connect(libpq(as_sqlalchemy(url))) as connection:
            assert connection.execute("select count(*) from datasets").fetchone() == (2,)


def test_server_and_worker_alone_say_what_they_miss(directory: Path):
    for name in ("server", "worker"):
        missing = run(name, BRIGHTRUN_DATA=str(directory / "nowhere"), DATABASE_URL="postgresql://u@127.0.0.1:1/d")
        assert missing.returncode == 1
        assert "BRIGHTRUN_SECRET_KEY" in missing.stderr
        missing = run(name, BRIGHTRUN_DATA=str(directory / "nowhere"), BRIGHTRUN_SECRET_KEY=SECRET)
        assert "DATABASE_URL" in missing.stderr
    assert not (directory / "nowhere").exists(), "a look changes nothing"


def test_a_damaged_backup_is_refused_before_anything_is_touched(saved: tuple[Path, str, str], directory: Path):
    backup, _token, _dataset_id = saved
    file = next((backup / "objects").rglob("*.jsonl"))
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:-1])
        refused = run("restore", str(backup), "--data", str(directory / "fourth"))
        assert refused.returncode == 1
        assert str(file) in refused.stderr
        assert not (directory / "fourth").exists()
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("when", ["before the data", "after the data"])
def test_a_restore_that_was_cut_short_is_repeated(
    postgres_admin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
):
    file = tmp_path / "database.dump"
    whole = dump._fill

    def cut_short(*arguments: Any) -> None:
        if when == "after the data":
            whole(*arguments)
        raise KeyboardInterrupt

    def lived_in(urls: DatabaseUrls) -> int:
        with psycopg.connect(libpq(urls.owner)) as connection:
            row = connection.execute("select count(*) from workspaces").fetchone()
        assert row is not None
        return int(str(row[0]))

    with another_database(postgres_admin) as source, another_database(postgres_admin) as target:
        urls = [derive_urls(make_settings(), TEST_SECRET, url) for url in (source, target)]
        migrate(urls[0])
        with psycopg.connect(libpq(urls[0].owner)) as connection:
            connection.execute("insert into workspaces (id, name) values (%s, 'kept')", [uuid7()])
        dump.dump_database(urls[0], file)
        owner = str(urls[0].owner.username)
        with monkeypatch.context() as patched:
            patched.setattr(dump, "_fill", cut_short)
            with pytest.raises(KeyboardInterrupt):
                dump.restore_database(urls[1], file, saved_owner=owner)
        dump.restore_database(urls[1], file, saved_owner=owner)
        assert lived_in(urls[1]) == 1
        with pytest.raises(ConflictError, match="workspaces in it already"):
            dump.restore_database(urls[1], file, saved_owner=owner)


def test_a_restore_that_fails_says_what_the_database_said(postgres_admin: str, tmp_path: Path):
    file = tmp_path / "database.dump"
    with another_database(postgres_admin) as source, another_database(postgres_admin) as target:
        urls = [derive_urls(make_settings(), TEST_SECRET, url) for url in (source, target)]
        migrate(urls[0])
        with psycopg.connect(libpq(urls[0].owner), autocommit=True) as connection:
            connection.execute("create table odd as select 1 as x")
            connection.execute("create role odd_role_of_the_policy")
            connection.execute("create policy odd on odd to odd_role_of_the_policy using (true)")
            dump.dump_database(urls[0], file)
            connection.execute("drop table odd")
            connection.execute("drop role odd_role_of_the_policy")
        with pytest.raises(dump.DumpError, match="odd_role_of_the_policy"):
            dump.restore_database(urls[1], file, saved_owner=str(urls[0].owner.username))
