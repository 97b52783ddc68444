"""A validation in a process of its own, so that hours of counting never hold up the worker's event loop.

Measured (`benchmarks/validation_process.py`): beside a validation in a thread the loop answers 8 to 20 times less
often, and one answer in a hundred takes 12 ms instead of 0.1; beside a process it notices nothing. Starting one takes
half a second, so small files (`validation_process_bytes`) stay in a thread.

The parent sends one order over a socket pair and receives how far the reading is, then the outcome or the error. The
child steps back for pages and database (`nice`), and is the first to go when memory runs out. It dies with its parent:
the end of the socket ends it and whatever it started, at once.
"""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from brightrun.datasets.validation_run import Outcome, Progress, Subject, run_validation
from brightrun.errors import BrightRunError
from brightrun.settings import Settings
from brightrun.storage import open_store
from brightrun.validation import ValidationCancelled
from brightrun.validation.limits import Limits
from brightrun.validation.thresholds import parse_thresholds

_NICE = 10
_LOOK_EVERY_S = 0.2
_REPORT_EVERY_BYTES = 1 << 20
_OOM_SCORE = "600"
"""Of at most 1,000. The kernel takes the process with the highest first: this one before PostgreSQL and the worker."""


class ValidatorDiedError(BrightRunError):
    """The process that validates ended without an answer. Worth another try; the last one is told."""

    code = "validation_crashed"
    retryable = True


class ValidatorMemoryError(BrightRunError):
    """It had no memory left, and could still say so."""

    code = "validation_out_of_memory"
    retryable = False


@dataclass(frozen=True)
class Order:
    """What a child is asked to do. scratch: as in `run_validation`."""

    settings: Settings
    public_url: str
    secret: bytes
    subject: Subject
    scratch: Path


def validate_apart(order: Order, progress: Progress) -> Outcome:
    """`run_validation` in a process of its own. Blocks.

    Raises what `run_validation` raises, ValidationCancelled soon after `progress.cancelled` is set,
    ValidatorDiedError and ValidatorMemoryError.
    """
    order.scratch.mkdir(parents=True, exist_ok=True)
    # A folder of its own: one that is killed cannot clear up after itself.
    with (
        tempfile.TemporaryDirectory(prefix="validation-", dir=order.scratch) as scratch,
        _child() as (child, connection),
    ):
        try:
            connection.send(replace(order, scratch=Path(scratch)))  # it may be dead by now
            while True:
                while not connection.poll(_LOOK_EVERY_S):
                    if progress.cancelled.is_set():
                        raise ValidationCancelled
                match connection.recv():
                    case int(bytes_read):
                        progress.bytes_read = bytes_read
                    case Outcome() as outcome:
                        return outcome
                    case BaseException() as error:
                        raise error
        except (EOFError, ConnectionError):
            raise _died(_end(child)) from None


@contextlib.contextmanager
def _child() -> Iterator[tuple["subprocess.Popen[bytes]", Connection]]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", "brightrun.datasets.validation_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        connection = Connection(ours.detach())
        try:
            yield child, connection
        finally:
            connection.close()
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> int:
    """Kill the child and whatever it started (the group is its own); its exit status, negative for a signal."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def _died(status: int) -> ValidatorDiedError:
    if status == -signal.SIGKILL:
        how = "was killed, most likely because the machine ran out of memory"
    elif status < 0:
        how = f"crashed ({signal.Signals(-status).name})"
    else:
        how = f"ended without a result (exit status {status})"
    return ValidatorDiedError(
        f"The process that checked the file {how}. The file is kept; validate it again, and if that fails too, look at "
        "the worker's log."
    )


# --- in the child ---------------------------------------------------------------------------------------------------


def main(descriptor: int) -> None:
    """Receive an order on the socket `descriptor`, and answer it."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    connection = Connection(descriptor)
    order: Order = connection.recv()
    threading.Thread(target=_die_with, args=(connection,), daemon=True).start()
    progress = _Reporting(connection)
    try:
        store = open_store(order.settings, public_url=order.public_url, secret=order.secret)
        answer: Any = run_validation(
            store,
            order.subject,
            progress,
            order.scratch,
            parse_thresholds(order.settings.validation_thresholds),
            Limits(order.settings.max_record_bytes, order.settings.compare_memory_bytes),
        )
    except MemoryError:
        answer = ValidatorMemoryError(
            "The check ran out of memory. Free some on the worker's machine, or give it more; then validate again."
        )
    except Exception as error:  # noqa: BLE001 - the parent raises it
        answer = _portable(error)
    connection.send(answer)


class _Reporting(Progress):
    """Progress that is sent whenever enough more was read."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection, self._told = connection, 0

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "bytes_read" and value and value - self._told >= _REPORT_EVERY_BYTES:
            self._told = value
            self._connection.send(value)


def _die_with(connection: Connection) -> None:
    """Wait for the end of the parent, which never says anything else."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os.killpg(0, signal.SIGKILL)


def _portable(error: Exception) -> Exception:
    """The error as the parent can receive it."""
    import traceback

    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own, of a moment ago
    except Exception:  # noqa: BLE001 - whatever a foreign exception's pickling raises
        return RuntimeError("".join(traceback.format_exception(error))[-2000:])
    return error


if __name__ == "__main__":
    # Imported by its name: what is pickled here is then of the classes that the parent knows.
    from brightrun.datasets import validation_process  # noqa: PLW0406

    validation_process.main(int(sys.argv[1]))
