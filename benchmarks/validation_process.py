"""How much a validation beside it slows the worker's event loop: none, in a thread, in a process of its own.

    python benchmarks/validation_process.py [--mb 500]

The loop sends small messages over a local socket and waits for each answer, as heartbeats and other lanes do with the
database. Rates and the slowest answers are compared with those of an idle loop in the same run.
"""

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from brightrun.datasets.validation_process import Order, validate_apart
from brightrun.datasets.validation_run import Outcome, Progress, Subject, run_validation
from brightrun.settings import Settings
from brightrun.storage import Bucket, open_store

SECRET = b"the benchmark's secret key"
PATH = "bench/datasets/one/file.jsonl"
WORDS = (
    *("clay", "kiln", "glaze", "slip", "fire", "water", "hand", "wheel", "dry", "thin", "pour", "cool", "shelf"),
    *("cone", "oxide", "form", "trim", "foot", "rim", "wall"),
)


def line(number: int) -> bytes:
    """About 1 KB; no two alike."""
    text = " ".join(WORDS[(number * 7 + at * at) % len(WORDS)] for at in range(70))
    return (
        f'{{"messages": [{{"role": "user", "content": "Question {number}: {text}?"}}, '
        f'{{"role": "assistant", "content": "Answer {number}: {text}."}}]}}\n'
    ).encode()


async def answers(stop: Callable[[], bool]) -> list[float]:
    """Seconds that each round trip took, until `stop`."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64):
            writer.write(data)
            await writer.drain()
        writer.close()

    # The other end is in a thread of its own loop, as a database is elsewhere.
    ready = threading.Event()
    address: list[tuple[str, int]] = []

    def serve() -> None:
        async def main() -> None:
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            address.append(server.sockets[0].getsockname())
            ready.set()
            async with server:
                await server.serve_forever()

        asyncio.run(main())

    threading.Thread(target=serve, daemon=True).start()
    await asyncio.to_thread(ready.wait)
    reader, writer = await asyncio.open_connection(*address[0])
    took = []
    while not stop():
        started = time.perf_counter()
        writer.write(b"x")
        await reader.read(64)
        took.append(time.perf_counter() - started)
    writer.close()
    return took


def beside(work: Callable[[], Outcome] | None, seconds: float) -> tuple[list[float], float]:
    """Round trips beside `work` (None: beside nothing, for so many seconds), and how long it took."""
    started = time.perf_counter()
    if work is None:
        return asyncio.run(answers(lambda: time.perf_counter() - started > seconds)), seconds
    thread = threading.Thread(target=work)
    thread.start()
    took = asyncio.run(answers(lambda: not thread.is_alive()))
    thread.join()
    return took, time.perf_counter() - started


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--mb", type=int, default=500)
    size = options.parse_args().mb * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        store = open_store(settings, public_url="http://127.0.0.1", secret=SECRET)
        store.ensure_buckets()
        file = Path(folder) / "file.jsonl"
        with file.open("wb") as stream:
            number = 0
            while stream.tell() < size:
                stream.write(line(number))
                number += 1
        store.put_file(Bucket.LORA_DATASETS, PATH, file)
        subject = Subject(
            workspace_id="bench", dataset_id="one", attempt=1, bucket=Bucket.LORA_DATASETS, path=PATH,
            file_name="file.jsonl", file_size=file.stat().st_size, declared_format=None, declared_sha256=None,
        )  # fmt: skip
        scratch = Path(folder) / "scratch"
        order = Order(settings, "http://127.0.0.1", SECRET, subject, scratch)
        print(f"{file.stat().st_size:,} bytes, {number:,} records, checks: full")
        idle = 0.0
        for name, work in (
            ("idle loop", None),
            ("beside a thread", lambda: run_validation(store, subject, Progress(), scratch)),
            ("beside a process", lambda: validate_apart(order, Progress())),
        ):
            took, seconds = beside(work, 3)
            took.sort()
            rate = len(took) / sum(took)
            idle = idle or rate
            print(
                f"{name:18} {rate:9,.0f} answers/s ({rate / idle:5.2f} of idle)  median "
                f"{1e3 * statistics.median(took):7.3f} ms  99 %: {1e3 * took[int(len(took) * 0.99)]:8.2f} ms  "
                f"slowest {1e3 * took[-1]:8.1f} ms  in {seconds:.1f} s"
            )


if __name__ == "__main__":
    main()
