"""Uploads through signed URLs on one machine: memory, speed against a bare loop, resumption, pages beside them.

    python benchmarks/upload.py [--megabytes 500] [--rounds 3] [--only speed|interrupted|crowd]

Named baseline, in the same run: a loop that reads the file, hashes it, writes it and fdatasyncs the copy. Bars: the
server grows by less than 60 MB; at least 0.5 × the baseline; interrupted twice (client killed, server killed -9) the
upload goes on and the hash matches; with twenty parallel uploads of 20 MB the list page answers with p95 under 200 ms.
What is measured in rounds is told as the median of them.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from brightrun.sdk import Client
from brightrun.storage.upload_client import UploadTarget, upload_file
from up_process import Up

MB = 1024 * 1024
BLOCK = 1024 * 1024


def make_file(path: Path, size: int) -> str:
    """A training file of about `size` bytes: records that validate, padded with text that does not compress away."""
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        written, index = 0, 0
        while written < size:
            text = os.urandom(24_000).hex()
            record = {
                "messages": [
                    {"role": "user", "content": f"Question {index}"},
                    {"role": "assistant", "content": f"Answer {text}"},
                ]
            }
            line = json.dumps(record).encode() + b"\n"
            stream.write(line)
            digest.update(line)
            written += len(line)
            index += 1
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


def bare_loop(source: Path, target: Path) -> float:
    """Seconds to read, hash, write and fdatasync."""
    started = time.perf_counter()
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(BLOCK):
            digest.update(block)
            writing.write(block)
        writing.flush()
        os.fdatasync(writing.fileno())
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


@contextmanager
def peak_memory(pid: int) -> Iterator[dict[str, float]]:
    """Growth of a process's resident memory while the block runs, MB (sampled 50 times a second)."""
    process = psutil.Process(pid)
    result = {"before": process.memory_info().rss / MB, "peak": 0.0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            result["peak"] = max(result["peak"], process.memory_info().rss / MB)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield result
    finally:
        done.set()
        thread.join()
        result["growth"] = result["peak"] - result["before"]


def announce(client: Client, path: Path) -> dict[str, Any]:
    return client.datasets.create(name=path.name, file_name=path.name, file_size=path.stat().st_size)


def stored_sha256(folder: Path, made: dict[str, Any]) -> str:
    """The hash of the object on the disk. Nothing is confirmed: a validation would disturb what is measured."""
    dataset = made["dataset"]
    with (folder / "data" / "objects" / dataset["storage_bucket"] / dataset["storage_path"]).open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()


def speed(up: Up, client: Client, source: Path, sha256: str, rounds: int) -> dict[str, Any]:
    """Baseline and both ways of uploading, interleaved."""
    server = up.child("server").pid
    ratios: dict[str, list[float]] = {"plain": [], "multipart": []}
    growth: dict[str, list[float]] = {"plain": [], "multipart": []}
    rates: list[float] = []
    size = source.stat().st_size
    for _round in range(rounds):
        baseline = bare_loop(source, source.with_suffix(".copy"))
        rates.append(size / baseline / 1e6)
        for way in ("plain", "multipart"):
            made = announce(client, source)
            target = UploadTarget.from_json(made if way == "multipart" else {**made, "multipart": None})
            with peak_memory(server) as memory:
                started = time.perf_counter()
                upload_file(source, target)
                seconds = time.perf_counter() - started
            ratios[way].append(baseline / seconds)
            growth[way].append(memory["growth"])
            if stored_sha256(source.parent, made) != sha256:
                raise SystemExit(f"{way}: the stored bytes are not those that were sent")
            client.datasets.delete(made["dataset"]["id"])
    return {
        "baseline_mb_per_s": statistics.median(rates),
        **{f"{way}_ratio": statistics.median(values) for way, values in ratios.items()},
        **{f"{way}_server_growth_mb": max(values) for way, values in growth.items()},
    }


def interrupted(up: Up, client: Client, source: Path, sha256: str) -> dict[str, Any]:
    """Kill the client in the middle, go on; kill -9 the server in the middle, go on; compare the hash."""
    made = announce(client, source)
    dataset_id = made["dataset"]["id"]
    script = Path(__file__).resolve().parent.parent / "tests" / "storage" / "upload_once.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(source), json.dumps(made)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > source.stat().st_size // 4:
            break
    process.kill()
    process.wait()
    after_client = stored_bytes(up, dataset_id)
    killed = threading.Event()

    def kill_server_halfway(done: int, total: int) -> None:
        if done > total // 2 and not killed.is_set():
            killed.set()
            up.child("server").kill()

    again = client._http.get(f"/api/datasets/{dataset_id}/upload").json()["data"]
    result = upload_file(source, UploadTarget.from_json(again), progress=kill_server_halfway)
    same = stored_sha256(source.parent, made) == sha256
    client.datasets.delete(dataset_id)
    return {
        "stored_when_the_client_died_mb": after_client / MB,
        "server_killed": killed.is_set(),
        "sent_by_the_second_client_mb": result.sent / MB,
        "hash_matches": same,
    }


def stored_bytes(up: Up, dataset_id: str) -> int:
    status = up.client.get(f"/api/datasets/{dataset_id}/upload").json()["data"]["multipart"]
    return sum(part["size"] for part in status.get("stored", []))


def crowds(up: Up, client: Client, folder: Path, rounds: int) -> dict[str, Any]:
    """As `crowd`, as often as `rounds` says: the median of each number, and every p95."""
    source = folder / "twenty.jsonl"
    make_file(source, 20 * MB)
    session = signed_in(up)
    found = [crowd(session, client, source) for _round in range(rounds)]
    medians = {name: round(statistics.median(one[name] for one in found), 1) for name in found[0]}
    return medians | {"page_p95_ms_each": [round(one["page_p95_ms"], 1) for one in found]}


def crowd(session: httpx2.Client, client: Client, source: Path) -> dict[str, Any]:
    """Twenty parallel uploads of 20 MB, and the list page meanwhile."""
    targets = [announce(client, source) for _ in range(20)]
    latencies: list[float] = []
    done = threading.Event()

    def browse() -> None:
        while not done.is_set():
            started = time.perf_counter()
            statuses.add(session.get("/datasets").status_code)
            latencies.append((time.perf_counter() - started) * 1000)

    statuses: set[int] = set()
    reader = threading.Thread(target=browse)
    alone = []
    for _warm in range(20):
        started = time.perf_counter()
        session.get("/datasets").raise_for_status()
        alone.append((time.perf_counter() - started) * 1000)
    # In a process of its own: twenty uploading threads here would slow the clock that measures the page.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(os.getpid).result()
        reader.start()
        seconds = pool.submit(_send_all, source, targets).result()
    done.set()
    reader.join()
    if statuses != {200}:
        raise SystemExit(f"the list page answered {statuses}")
    for made in targets:
        client.datasets.delete(made["dataset"]["id"])
    latencies.sort()
    return {
        "page_alone_p50_ms": statistics.median(alone),
        "uploads_mb_per_s": 20 * 20 * MB / seconds / 1e6,
        "page_requests": len(latencies),
        "page_p50_ms": statistics.median(latencies),
        "page_p95_ms": latencies[int(len(latencies) * 0.95)],
    }


def _send_all(source: Path, targets: list[dict[str, Any]]) -> float:
    """Seconds that all uploads together take."""
    started = time.perf_counter()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda made: upload_file(source, UploadTarget.from_json(made), parallel=1), targets))
    return time.perf_counter() - started


def signed_in(up: Up) -> httpx2.Client:
    """A browser's session, by the one-time link."""
    import re

    session = httpx2.Client(base_url=up.url, timeout=60)
    page = session.get(up.ready["signin_url"])
    token = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page.text)
    assert token is not None
    session.post(up.ready["signin_url"], data={"csrf_token": token[1]})
    return session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["speed", "interrupted", "crowd"])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="brightrun-bench-"))
    folder.chmod(0o755)
    load = os.getloadavg()[0]
    try:
        source = folder / "big.jsonl"
        wanted = [options.only] if options.only else ["speed", "interrupted", "crowd"]
        sha256 = make_file(source, options.megabytes * MB - 100_000) if wanted != ["crowd"] else ""
        up = Up(folder / "data", BRIGHTRUN_MAX_UPLOAD_BYTES=str(2 * options.megabytes * MB))
        try:
            with Client(up.url, up.ready["api_token"]) as client:
                parts: dict[str, Callable[[], dict[str, Any]]] = {
                    "speed": lambda: speed(up, client, source, sha256, options.rounds),
                    "interrupted": lambda: interrupted(up, client, source, sha256),
                    "crowd": lambda: crowds(up, client, folder, options.rounds),
                }
                results = {
                    "machine": f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 1024**3:.0f} GiB",
                    "python": platform.python_version(),
                    "load_at_start": round(load, 2),
                    "megabytes": options.megabytes,
                    "rounds": options.rounds,
                    **{name: parts[name]() for name in wanted},
                }
        finally:
            up.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
