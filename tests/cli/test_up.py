"""`brightrun up`: one line when ready, everything started again that dies, nothing left behind."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from up_process import Up, processes_of
from waiting import eventually


@pytest.fixture
def data() -> Iterator[Path]:
    # Reachable by the account that PostgreSQL runs as, which pytest's own directories are not.
    with tempfile.TemporaryDirectory(prefix="brightrun-up-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_up_says_one_line_and_leaves_nothing_behind(data: Path):
    up = Up(data)
    assert set(up.ready) == {"url", "signin_url", "api_token"}
    assert not up.url.endswith("/")
    assert up.client.get("/api/me").json()["data"]["workspace"]["role"] == "owner"
    assert httpx2.get(up.ready["signin_url"]).status_code == 200
    assert up.stop() == 0
    assert up.rest == b"", "the line is the only thing on stdout"
    eventually("no process is left", lambda: processes_of(data) == [])


def test_the_next_start_has_a_new_link_and_token_and_the_old_ones_end(data: Path):
    first = Up(data)
    workspace = first.client.get("/api/me").json()["data"]["workspace"]["id"]
    first.stop(signal.SIGINT)
    second = Up(data)
    try:
        assert second.client.get("/api/me").json()["data"]["workspace"]["id"] == workspace, "the same owner"
        old = httpx2.get(f"{second.url}/api/me", headers={"Authorization": f"Bearer {first.ready['api_token']}"})
        assert old.status_code == 401
        assert second.ready["signin_url"] != first.ready["signin_url"]
    finally:
        second.stop()


@pytest.mark.slow
def test_a_killed_server_and_worker_are_started_again_on_the_same_address(data: Path):
    up = Up(data)
    try:
        server, worker = up.child("server"), up.child("worker")
        server.kill()
        # The listening socket lives in `up`: this request waits for the next server instead of failing.
        assert up.client.get("/api/me").status_code == 200
        worker.kill()
        eventually("another worker", lambda: up.child("worker").pid != worker.pid)
        created = up.client.post("/api/datasets", json={"name": "x", "file_name": "x.jsonl", "file_size": 3})
        made = created.json()["data"]
        assert httpx2.put(made["uploadUrl"], content=b"abc").is_success
        path = f"/api/datasets/{made['dataset']['id']}"
        assert up.client.post(f"{path}/confirm").is_success
        eventually("validated", lambda: up.client.get(path).json()["data"]["dataset"]["status"] == "error")
    finally:
        up.stop()


@pytest.mark.slow
def test_a_killed_database_is_started_again_and_nothing_accepted_is_lost(data: Path):
    up = Up(data)
    try:
        assert up.client.post("/api/workspaces", json={"name": "kept"}).status_code == 201
        postmaster = next(process for process in processes_of(data) if "-D" in process.cmdline())
        postmaster.kill()

        def kept() -> bool:
            answer = up.client.get("/api/me")
            return answer.status_code == 200

        eventually("served again", kept)
    finally:
        up.stop()


@pytest.mark.slow
def test_after_kill_9_of_up_the_database_lives_and_the_next_up_adopts_it(data: Path):
    first = Up(data)
    token = first.ready["api_token"]
    postmaster = next(process for process in processes_of(data) if "-D" in process.cmdline())
    children = [first.child("server"), first.child("worker")]
    first.kill()
    _gone, alive = psutil.wait_procs(children, timeout=60)
    assert alive == [], "server and worker notice that their parent is gone"
    assert postmaster.is_running()
    second = Up(data)
    try:
        assert postmaster.is_running(), "adopted, not started anew"
        assert second.ready["api_token"] != token
        assert second.client.get("/api/me").status_code == 200
    finally:
        second.stop()
    eventually("no process is left", lambda: processes_of(data) == [])


@pytest.mark.slow
def test_two_on_one_directory_share_the_database_and_the_last_one_stops_it(data: Path):
    first = Up(data)
    second = Up(data)
    assert first.url != second.url
    first.stop()
    assert second.client.get("/api/me").status_code == 200
    second.stop()
    eventually("no process is left", lambda: processes_of(data) == [])


def test_a_port_that_is_taken_is_an_error_that_says_so(data: Path):
    import socket
    import subprocess
    import sys

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "brightrun", "up", "--data", str(data), "--port", port, "--json"],
            capture_output=True,
            text=True,
            env=os.environ,
            check=False,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert not json.dumps(done.stderr).count("Traceback")
