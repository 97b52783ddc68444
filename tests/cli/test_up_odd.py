"""`brightrun up` under odd circumstances: stopped before it is ready, impatience, closed streams, IPv6, no HOME."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from up_process import Up, processes_of
from waiting import eventually


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="brightrun-odd-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "with a space"


def begin(data: Path, **options: object) -> "subprocess.Popen[bytes]":
    data.mkdir()
    with (data / "up.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "brightrun", "up", "--data", str(data), "--port", "0", "--json"],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "BRIGHTRUN_MIN_FREE_DISK_BYTES": "0"},
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )


def child(process: "subprocess.Popen[bytes]", word: str) -> bool:
    below = psutil.Process(process.pid).children(recursive=True)
    return any(word in " ".join(found.cmdline()) for found in below)


STAGES: dict[str, Callable[["subprocess.Popen[bytes]"], bool]] = {
    "while the cluster is made": lambda process: child(process, "initdb"),
    "while the server starts": lambda process: child(process, "brightrun server"),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", STAGES)
def test_asked_to_stop_before_it_is_ready_it_leaves_nothing(data: Path, stage: str, number: signal.Signals):
    process = begin(data, stdout=subprocess.PIPE)
    try:
        eventually(stage, lambda: STAGES[stage](process), within=90)
        process.send_signal(number)
        assert process.wait(60) == 0, (data / "up.log").read_text()[-3000:]
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert "Traceback" not in (data / "up.log").read_text()
        eventually("no process is left", lambda: processes_of(data) == [])
    finally:
        process.kill()


def test_impatience_does_not_cut_the_stop_short(data: Path):
    up = Up(data)
    up.process.send_signal(signal.SIGINT)
    for _ in range(20):
        if up.process.poll() is None:
            up.process.send_signal(signal.SIGINT)
    assert up.stop(signal.SIGINT) == 0
    eventually("no process is left", lambda: processes_of(data) == [])
    assert "Traceback" not in (data / "up.log").read_text()


@pytest.mark.slow
def test_killed_while_it_starts_the_next_start_works(data: Path):
    process = begin(data, stdout=subprocess.DEVNULL)
    eventually("the cluster is being made", lambda: child(process, "initdb"), within=90)
    process.kill()
    process.wait()
    up = Up(data)
    assert up.client.get("/api/me").status_code == 200
    assert up.stop() == 0
    eventually("no process is left", lambda: processes_of(data) == [])


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["1", "0 1 2"])
def test_closed_streams_are_no_reason_to_stop(data: Path, closed: str):
    data.mkdir()
    redirects = " ".join(f"{number}>&-" for number in closed.split())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = f'exec "{sys.executable}" -m brightrun up --data "{data}" --port {port} --json {redirects}'
    process = subprocess.Popen(["bash", "-c", command], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        eventually("served", lambda: httpx2.get(f"http://127.0.0.1:{port}/readyz").is_success, within=90)
        eventually("announced", lambda: json.loads((data / "running.json").read_text()) if _there(data) else False)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    eventually("no process is left", lambda: processes_of(data) == [])


def _there(data: Path) -> bool:
    return (data / "running.json").exists()


@pytest.mark.slow
def test_without_a_home_and_on_ipv6(data: Path):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    up = Up(data, "--port", "0", "--host", "::1", HOME="")
    try:
        assert up.url.startswith("http://[::1]:")
        made = up.client.post("/api/datasets", json={"name": "x", "file_name": "x.jsonl", "file_size": 3}).json()
        assert httpx2.put(made["data"]["uploadUrl"], content=b"abc").is_success
        assert httpx2.get(up.ready["signin_url"]).is_success
    finally:
        assert up.stop() == 0
