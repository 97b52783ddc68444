"""Processes that read stretches of one file side by side. Only where processes can be forked from a single thread."""

import contextlib
import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_HEADER = 12  # number of the stretch, and length of what was made of it, as 4 and 8 bytes
_READ = 1 << 20


class WorkerDiedError(ChildProcessError):
    """A process that read a part of the file ended without an answer."""


def can_fork() -> bool:
    """Whether processes may be forked here and now: not on systems where it is unsafe, nor beside other threads."""
    return sys.platform == "linux" and threading.active_count() == 1


def is_alone() -> bool:
    """Whether processes may be forked that use libraries with threads of their own: none of those has begun yet."""
    return can_fork() and len(list(Path("/proc/self/task").iterdir())) == 1


def usable_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(work: Callable[[int], Any], tasks: int, workers: int) -> Iterator[Any]:
    """`work(0)`, `work(1)`, …, in this order, each made in one of `workers` forked processes.

    What `work` answers is pickled. What it raises is raised here; WorkerDiedError when a process was killed. However
    the iteration ends, no process stays behind.
    """
    orders, give = os.pipe()
    for number in range(tasks):
        os.write(give, number.to_bytes(4, "big"))
    os.close(give)
    children: dict[int, int] = {}  # descriptor → process
    try:
        for _ in range(min(workers, tasks)):
            answers, answer = os.pipe()
            if (process := os.fork()) == 0:
                _serve(orders, answer, work)
            os.close(answer)
            children[answers] = process
        yield from _in_order(children, tasks)
    finally:
        os.close(orders)
        for descriptor, process in children.items():
            os.close(descriptor)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _in_order(children: dict[int, int], tasks: int) -> Iterator[Any]:
    buffers = {descriptor: bytearray() for descriptor in children}
    done: dict[int, Any] = {}
    wanted = 0
    while wanted < tasks:
        ready, _, _ = select.select(list(buffers), [], [])
        for descriptor in ready:
            piece = os.read(descriptor, _READ)
            if not piece:
                if buffers.pop(descriptor) or not buffers:
                    raise WorkerDiedError("A process that read a part of the file was killed. Is there memory enough?")
                continue
            buffers[descriptor] += piece
            for number, answer in _answers(buffers[descriptor]):
                if isinstance(answer, BaseException):
                    raise answer
                done[number] = answer
        while wanted in done:
            yield done.pop(wanted)
            wanted += 1


def _answers(buffer: bytearray) -> Iterator[tuple[int, Any]]:
    """Take whole answers out of what has arrived."""
    while len(buffer) >= _HEADER:
        end = _HEADER + int.from_bytes(buffer[4:_HEADER], "big")
        if len(buffer) < end:
            return
        number, answer = int.from_bytes(buffer[:4], "big"), pickle.loads(buffer[_HEADER:end])  # noqa: S301 (of our own)
        del buffer[:end]
        yield number, answer


def _serve(orders: int, answer: int, work: Callable[[int], Any]) -> None:
    """The child: never returns."""
    status = 1
    try:
        while order := os.read(orders, 4):
            number = int.from_bytes(order, "big")
            made: Any
            try:
                made = work(number)
            except Exception as error:  # noqa: BLE001 (raised in the parent)
                made = error
            content = pickle.dumps(made, protocol=pickle.HIGHEST_PROTOCOL)
            rest = memoryview(number.to_bytes(4, "big") + len(content).to_bytes(8, "big") + content)
            while rest:
                rest = rest[os.write(answer, rest) :]
        status = 0
    except (BrokenPipeError, KeyboardInterrupt):
        pass  # nobody waits any more
    finally:
        os._exit(status)
