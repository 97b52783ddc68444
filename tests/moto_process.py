"""An S3 server as a process of its own (moto), and the settings that point at it."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from brightrun.settings import MIB


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    """URL of an empty S3 on a free port, for as long as the block lasts."""
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
    drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)  # or the pipe fills
    try:
        yield found[1]
    finally:
        process.terminate()
        process.wait(20)
        drain.wait(20)


def s3_values(endpoint: str, **more: Any) -> dict[str, Any]:
    """Settings for one S3 bucket of everything, with parts as small as S3 allows."""
    return {
        "storage": "s3",
        "s3_endpoint": endpoint,
        "s3_bucket": "everything",
        "s3_access_key_id": SecretStr("A" * 20),
        "s3_secret_access_key": SecretStr("B" * 40),
        "upload_part_bytes": 5 * MIB,
        **more,
    }
