"""How much the server grows while a big file passes through it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from platform_steps import announce

from brightrun.settings import MIB
from up_process import Up

SIZE = 200 * MIB
BLOCK = bytes(range(256)) * 4096  # 1 MiB
MOST_GROWTH = 60 * MIB


class Watch:
    """The greatest resident memory of a process while the block runs, asked for as often as the machine allows."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self.before = self.peak = process.memory_info().rss

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self.peak - self.before


def blocks() -> Iterator[bytes]:
    for _ in range(SIZE // MIB):
        yield BLOCK


@pytest.mark.slow
def test_two_hundred_megabytes_in_and_out_cost_less_than_sixty_of_memory(data: Path) -> None:
    up = Up(data)
    try:
        warm = announce(up.client, MIB)
        assert httpx2.put(warm["uploadUrl"], content=BLOCK).is_success
        created = announce(up.client, SIZE)
        with Watch(up.child("server")) as coming:
            headers = {"Content-Length": str(SIZE)}
            stored = httpx2.put(created["uploadUrl"], content=blocks(), headers=headers, timeout=240)
        assert stored.status_code == 200, stored.text
        assert coming.growth < MOST_GROWTH, f"grew by {coming.growth / MIB:.0f} MiB"
        location = up.client.get(f"/api/datasets/{created['dataset']['id']}/download").headers["location"]
        received = 0
        with Watch(up.child("server")) as going, httpx2.stream("GET", location, timeout=240) as response:
            for chunk in response.iter_bytes(MIB):
                received += len(chunk)
        assert received == SIZE
        assert going.growth < MOST_GROWTH, f"grew by {going.growth / MIB:.0f} MiB"
    finally:
        up.stop()
