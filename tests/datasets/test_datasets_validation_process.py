"""Large files are validated in a process of their own: the same outcome, and no way for it to live on or be silent."""

import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from dataset_steps import chat_file, upload_and_validate, wait_for

from brightrun.datasets.validation_process import Order, ValidatorDiedError, ValidatorMemoryError, validate_apart
from brightrun.datasets.validation_run import Outcome, Progress, Subject, run_validation
from brightrun.settings import Settings
from brightrun.storage import Bucket, ObjectStore, open_store
from brightrun.storage.errors import ObjectNotFoundError
from brightrun.validation import ValidationCancelled
from installation import TEST_SECRET, make_settings
from live import Member

PATH = "w/datasets/d/f.jsonl"
# Long enough to be met at work: it is stopped as soon as it is there.
CONTENT = b"not json\n" * 1_200 + chat_file(60_000)


def store_of(folder: Path, content: bytes = CONTENT) -> ObjectStore:
    store = open_store(settings_of(folder), public_url="http://x", secret=TEST_SECRET)
    store.ensure_buckets()
    store.put_bytes(Bucket.LORA_DATASETS, PATH, content)
    return store


def settings_of(folder: Path) -> Settings:
    return make_settings(data=folder, min_free_disk_bytes=0)


def order_of(folder: Path, *, path: str = PATH, size: int = len(CONTENT)) -> Order:
    subject = Subject(
        workspace_id="w", dataset_id="d", attempt=1, bucket=Bucket.LORA_DATASETS, path=path, file_name="f.jsonl",
        file_size=size, declared_format=None, declared_sha256=None,
    )  # fmt: skip
    return Order(settings_of(folder), "http://x", TEST_SECRET, subject, folder / "scratch")


def validator_of(parent: int) -> psutil.Process:
    """The process that validates for this one, stopped at its work."""

    def find() -> psutil.Process | None:
        for child in psutil.Process(parent).children():
            if "brightrun.datasets.validation_process" in child.cmdline():
                child.suspend()
                return child
        return None

    found: psutil.Process = wait_for(find, what="the process")
    return found


def start(folder: Path, progress: Progress) -> tuple[Future[Outcome], psutil.Process]:
    pool = ThreadPoolExecutor(1)
    running = pool.submit(validate_apart, order_of(folder), progress)
    pool.shutdown(wait=False)
    return running, validator_of(os.getpid())


def test_the_outcome_is_that_of_a_thread_and_how_far_it_is_is_told(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    progress = Progress()
    apart = validate_apart(order_of(tmp_path), progress)
    assert apart == run_validation(store, order_of(tmp_path).subject, Progress(), tmp_path / "scratch")
    assert apart.report is not None
    assert apart.report.errors_total == 1_200
    assert 1 << 20 <= progress.bytes_read <= len(CONTENT)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not [child for child in psutil.Process().children() if "validation_process" in str(child.cmdline())]


def test_a_fault_comes_over_as_it_is(tmp_path: Path) -> None:
    store_of(tmp_path)
    with pytest.raises(ObjectNotFoundError) as caught:
        validate_apart(order_of(tmp_path, path="w/datasets/d/gone.jsonl"), Progress())
    assert caught.value.code == "object_not_found"
    assert caught.value.message
    assert validate_apart(order_of(tmp_path, size=5), Progress()).code == "size_mismatch"


def test_a_cancelled_one_is_gone_at_once_even_when_it_does_not_move(tmp_path: Path) -> None:
    store_of(tmp_path)
    progress = Progress()
    running, child = start(tmp_path, progress)
    progress.cancelled.set()
    with pytest.raises(ValidationCancelled):
        running.result(30)
    assert not child.is_running()
    assert list((tmp_path / "scratch").iterdir()) == [], "nor are its files left"


def test_one_that_is_killed_is_told_with_what_to_do(tmp_path: Path) -> None:
    store_of(tmp_path)
    running, child = start(tmp_path, Progress())
    child.kill()
    with pytest.raises(ValidatorDiedError, match="ran out of memory") as caught:
        running.result(30)
    assert caught.value.retryable
    running, child = start(tmp_path, Progress())
    child.send_signal(signal.SIGSEGV)
    child.resume()
    with pytest.raises(ValidatorDiedError, match=r"crashed \(SIGSEGV\)"):
        running.result(30)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit, which Linux has")
def test_one_without_memory_says_so_or_is_told_to_have_died(tmp_path: Path) -> None:
    store_of(tmp_path)
    running, child = start(tmp_path, Progress())
    resource.prlimit(child.pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))
    child.resume()
    with pytest.raises((ValidatorMemoryError, ValidatorDiedError)):
        running.result(60)
    assert not child.is_running()


def test_it_dies_with_its_worker(tmp_path: Path) -> None:
    store_of(tmp_path)
    code = (
        "import sys, pathlib; sys.path[:0] = sys.argv[2:]\n"
        "from test_datasets_validation_process import *\n"
        "validate_apart(order_of(pathlib.Path(sys.argv[1])), Progress())"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *paths]) as worker:
        child = validator_of(worker.pid)
        worker.kill()
        worker.wait()
    child.resume()
    assert psutil.wait_procs([child], timeout=30)[1] == []


def test_it_steps_back_for_the_others(tmp_path: Path) -> None:
    store_of(tmp_path)
    progress = Progress()
    _running, child = start(tmp_path, progress)
    child.resume()
    try:
        wait_for(lambda: child.nice() >= 10, what="a lower priority")
    finally:
        progress.cancelled.set()


def test_a_large_dataset_is_validated_by_a_worker_as_a_small_one(owner: Member) -> None:
    content = chat_file(1_000, long=3_000)
    assert len(content) > 2 << 20
    dataset = upload_and_validate(owner.client, content)
    assert dataset["status"] == "ready"
    assert dataset["total_records"] == 1_000
    assert dataset["validated_bytes"] == len(content)
