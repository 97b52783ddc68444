"""Real servers: our routes in a uvicorn process, S3 spoken by moto_server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from storage_servers import StorageServer, s3_settings, storage_server


@pytest.fixture(scope="session")
def moto_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    seen = ""
    while not (found := re.search(r"Running on (http://\S+)", seen)):
        line = process.stderr.readline()
        assert line, seen
        seen += line
    # Whatever it says from now on must not fill the pipe.
    drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    yield found[1]
    process.terminate()
    process.wait(20)
    drain.wait(20)


@pytest.fixture(scope="session")
def local_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageServer]:
    with storage_server(tmp_path_factory.mktemp("local")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory, moto_endpoint: str) -> Iterator[StorageServer]:
    """One S3 bucket for everything."""
    settings = s3_settings(moto_endpoint, s3_bucket="everything")
    with storage_server(tmp_path_factory.mktemp("s3"), **settings) as server:
        assert server.store().ensure_buckets() == ["everything"]
        yield server


@pytest.fixture(scope="session")
def s3_buckets_server(tmp_path_factory: pytest.TempPathFactory, moto_endpoint: str) -> Iterator[StorageServer]:
    """One S3 bucket for each of ours."""
    settings = s3_settings(moto_endpoint, s3_bucket_prefix="acme-")
    with storage_server(tmp_path_factory.mktemp("s3b"), **settings) as server:
        assert len(server.store().ensure_buckets()) == 7
        yield server


@pytest.fixture(params=["local_server", "s3_server", "s3_buckets_server"])
def server(request: pytest.FixtureRequest) -> StorageServer:
    """Each implementation in turn, shared: tests use the folder `workspace` and leave others' objects alone."""
    found: StorageServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def workspace() -> str:
    return str(uuid4())


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=30) as client:
        yield client
