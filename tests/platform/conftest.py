"""Data directories that PostgreSQL's own account can reach, and a small disk that can be filled."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


@pytest.fixture
def data() -> Iterator[Path]:
    """Reachable by the account that PostgreSQL runs as, which pytest's own directories are not."""
    with tempfile.TemporaryDirectory(prefix="brightrun-platform-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def _mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a process that a failed test left may still have a file open.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(data: Path) -> Iterator[Callable[[str, int], Path]]:
    """Makes a folder below `data` a file system of its own of so many megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    with ExitStack() as mounts:
        yield lambda name, megabytes: mounts.enter_context(_mounted(data / name, megabytes))
