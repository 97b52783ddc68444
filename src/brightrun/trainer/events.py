"""`events.jsonl`: all that a run has to say, one JSON object a line, append-only.

Every event has `seq` (strictly increasing, over resumes too), `time` (UTC) and `type`:

- stage: `stage` (preprocessing, model_loading, training, finalizing), `fraction` 0…1 of that stage. With the first
  step of an attempt `startup`: where the time since the process began went, in seconds by part.
- metric, after every optimiser step: `step, total_steps, epoch, loss` (mean per trained token of the step),
  `learning_rate, grad_norm` (before clipping), `trained_tokens` (of the step: the n of the loss),
  `trained_tokens_total, tokens_per_s` (without padding), and what `hardware` samples. With DPO the loss is per pair,
  and `preference` adds margin and accuracy. After an evaluation the same step comes once more with `heldout_loss`.
  After a resume, steps since the checkpoint come again. For one step the last event counts.
- sample: `when` (before, during, after), `step`, `prompt`, `answer`, `expected`, `conversation_id`, `cut`.
- checkpoint: `step, path, heldout_loss, best` (lowest held-out loss so far), `kept` (steps of those still there).
- warning: `code, message` and what it is about. A stop from outside (exit 75) is one of `preempted, stopped, paused`.
- done: the results; the run is finished. failed: `exit_code, code, message, advice, resumable`; this attempt is over.
"""

import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

EVENTS_FILE = "events.jsonl"
EventType = Literal["stage", "metric", "sample", "checkpoint", "warning", "done", "failed"]


class EventLog:
    """Appends events; whole lines only, each in one write. Use from one thread."""

    def __init__(self, run_dir: Path) -> None:
        """Open, cutting off what a crash left after the last whole line. `repaired_bytes` says how much that was."""
        self.path = run_dir / EVENTS_FILE
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._fd).st_size
        keep, last = _last_whole_event(self.path)
        self.repaired_bytes = size - keep
        if self.repaired_bytes:
            os.ftruncate(self._fd, keep)
            os.fsync(self._fd)
        self._seq = 0 if last is None else int(last["seq"])

    def emit(self, event_type: EventType, /, **fields: Any) -> dict[str, Any]:
        """Write one event and return it. Numbers that JSON has no word for (NaN, infinity) become null."""
        self._seq += 1
        event = {"seq": self._seq, "time": now(), "type": event_type, **_finite(fields)}
        line = (json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
        start = os.fstat(self._fd).st_size
        written = os.write(self._fd, line)
        if written != len(line):  # a full disk may take half a line: leave whole lines only
            os.ftruncate(self._fd, start)
            raise OSError(28, "No space left on device", str(self.path))
        return event

    def sync(self) -> None:
        """Return once everything emitted so far is on the disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def is_finished(run_dir: Path) -> bool:
    """True when the run's last event says that it is done. Reads only."""
    path = run_dir / EVENTS_FILE
    if not path.exists():
        return False
    _, last = _last_whole_event(path)
    return last is not None and last.get("type") == "done"


def now() -> str:
    """UTC, milliseconds, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _last_whole_event(path: Path) -> tuple[int, dict[str, Any] | None]:
    """(length of the file up to and with its last whole event, that event). Reads backwards, a little at a time."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        tail = b""
        position = end
        while True:
            # Lines are whole from the first newline in `tail` on, or from the start of the file.
            cut = tail.rfind(b"\n")
            while cut != -1:
                begin = tail.rfind(b"\n", 0, cut) + 1
                if begin == 0 and position > 0:
                    break  # the line begins before what was read
                event = _parsed(tail[begin:cut])
                if event is not None:
                    return position + cut + 1, event
                cut = begin - 1
            if position == 0:
                return 0, None
            step = min(64 * 1024, position)
            position -= step
            stream.seek(position)
            tail = stream.read(step) + tail


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None for one that a crash has torn (a power cut can leave a tail of zero bytes)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("seq"), int) else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
