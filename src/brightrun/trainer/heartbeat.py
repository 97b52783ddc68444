"""Signs of life: `trainer.json` says which process works here, `heartbeat.json` that it still does."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from brightrun.trainer.events import now

TRAINER_FILE = "trainer.json"
HEARTBEAT_FILE = "heartbeat.json"


def write_json(path: Path, value: Any) -> None:
    """Replace a small JSON file in one step: a reader sees the old one or the new one."""
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def spent_seconds_before(run_dir: Path) -> float | None:
    """Seconds that earlier attempts worked, as their last heartbeat said; 0 for a first attempt.

    None when the heartbeat cannot be read (a power cut may leave it empty): the checkpoint knows an older number.
    """
    try:
        return float(json.loads((run_dir / HEARTBEAT_FILE).read_bytes())["spent_seconds"])
    except FileNotFoundError:
        return 0.0
    except (ValueError, KeyError, TypeError):
        return None


class Heartbeat:
    """A thread that rewrites heartbeat.json every `interval_s` while the process lives.

    `time` moves while the process lives, `progress_at` only when the run got on, so a stall shows although the
    process beats. `spent_seconds` counts all attempts.
    """

    def __init__(self, run_dir: Path, run_id: str, *, spent_before: float, interval_s: float = 2.0) -> None:
        self._path = run_dir / HEARTBEAT_FILE
        self._run_id = run_id
        self._spent_before = spent_before
        self._interval_s = interval_s
        # The process's own start, so that imports are counted too.
        self._started = time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())
        self._stage = "starting"
        self._step = 0
        self._progress_at = now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.error: OSError | None = None
        self._largest_pass_tokens = 0
        self.longest_record_tokens = 0
        """The least that a forward pass can be cut down to."""

    def start(self) -> None:
        self._beat()
        self._thread.start()

    def saw_pass(self, tokens: int) -> None:
        """A forward pass of so many tokens, padding included, is about to run: what memory must have room for."""
        self._largest_pass_tokens = max(self._largest_pass_tokens, tokens)

    def progress(self, stage: str, step: int = 0) -> None:
        self._stage, self._step, self._progress_at = stage, step, now()

    @property
    def spent_seconds(self) -> float:
        return self._spent_before + time.monotonic() - self._started

    def at_least(self, spent_before: float) -> None:
        """Earlier attempts worked for at least so long (known from a checkpoint, should the heartbeat be lost)."""
        self._spent_before = max(self._spent_before, spent_before)

    def stop(self) -> None:
        """Beat once more and end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._beat()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._beat()

    def _beat(self) -> None:
        try:
            write_json(
                self._path,
                {
                    "time": now(),
                    "progress_at": self._progress_at,
                    "stage": self._stage,
                    "step": self._step,
                    "run_id": self._run_id,
                    "pid": os.getpid(),
                    "spent_seconds": round(self.spent_seconds, 3),
                    "largest_pass_tokens": self._largest_pass_tokens,
                    "longest_record_tokens": self.longest_record_tokens,
                    "rss_bytes": psutil.Process().memory_info().rss,
                },
            )
            self.error = None
        except OSError as error:  # a full disk must not end the thread; the loop reports it and the beat is retried
            self.error = error
