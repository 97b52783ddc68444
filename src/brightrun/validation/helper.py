"""A second process that reads the same file and does the checks that compare records.

Such checks remember what they saw, so a file cannot be cut for them as for its structure. But they speak only when all
records were seen: a process of its own can see them meanwhile. Stand-ins say in the end what it found, in the place of
the checks themselves, so the report is that of one process.
"""

import os
import pickle
import select
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from brightrun.formats.issues import Issue
from brightrun.formats.reader import RecordReader
from brightrun.formats.records import Record
from brightrun.validation.checks import ComparingCheck, LateRemark, Reread
from brightrun.validation.content.places import Places
from brightrun.validation.pool import WorkerDiedError
from brightrun.validation.report import IssueLog
from brightrun.validation.reread import Rereader
from brightrun.validation.run import Run

_WORTH_IT = 2 << 20
_BATCH = 256  # remarks
_WAIT_S = 0.2  # until it is asked again whether to go on


class Seen(NamedTuple):
    """records: how many; line, byte_offset: of the last one. Equal in both processes if the file stayed as it was."""

    records: int = 0
    line: int = 0
    byte_offset: int = 0


class _Late(NamedTuple):
    """Remarks of one check. more: whether others of the same check follow."""

    remarks: list[LateRemark]
    more: bool


class Helper:
    """The process, and what it says.

    stand_ins: for the checks, in their order. on_step: called while waiting; what it raises ends that. Close the
    helper however the validation ends.
    """

    def __init__(self, path: Path, checks: Sequence[ComparingCheck], places: Places, on_step: Callable[[], None]):
        self._path, self._checks, self._places, self._on_step = path, checks, places, on_step
        self.stand_ins = [_StandIn(self, check) for check in checks]
        self._answers, self._process, self._buffer = -1, 0, bytearray()

    def start(self, format: str, max_record_bytes: int) -> None:  # noqa: A002
        """Fork. Never beside other threads, native ones included: those of libraries would be missing in the child."""
        self._answers, answer = os.pipe()
        if (process := os.fork()) == 0:
            os.close(self._answers)
            _serve(answer, lambda say: self._work(say, format, max_record_bytes))
        os.close(answer)
        self._process = process

    def close(self) -> None:
        """End the process, if it has not ended."""
        if self._answers >= 0:
            os.close(self._answers)
            with suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            self._answers = -1

    def _work(self, say: Callable[[object], None], format: str, max_record_bytes: int) -> None:  # noqa: A002
        """In the process itself: read as the first one does, and say what the checks say."""
        reader = RecordReader(self._path, format, max_record_bytes=max_record_bytes, texts=True)
        run = _LookingRun(reader, self._checks, self._places)
        for item in reader.items(run.may_hurry):
            run.take_item(item)
        detection = reader.detection
        assert detection is not None

        def opens() -> BinaryIO:
            return self._path.open("rb")

        reread = Rereader(opens, detection, max_record_bytes)
        for check in self._checks:
            say(run.seen)
            held: list[LateRemark] = []
            for remark in check.finish(reread):
                held.append(remark)
                if len(held) == _BATCH:
                    say(_Late(held, True))
                    held = []
            say(_Late(held, False))

    def late(self, seen: Seen) -> Iterator[LateRemark]:
        """What the next of the checks says. seen: by the first process.

        Raises what was raised in the process, WorkerDiedError, and OSError where the two have read different files.
        """
        if self._hear() != seen:
            raise OSError("The file was changed while it was read. Check it again.")
        more = True
        while more:
            remarks, more = self._hear()
            yield from remarks

    def _hear(self) -> Any:
        """The next that was sent."""
        while len(self._buffer) < 8 or len(self._buffer) < 8 + int.from_bytes(self._buffer[:8], "big"):
            if not select.select([self._answers], [], [], _WAIT_S)[0]:
                self._on_step()
                continue
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise WorkerDiedError("A process that compared the records was killed. Is there memory enough?")
            self._buffer += piece
        end = 8 + int.from_bytes(self._buffer[:8], "big")
        said = pickle.loads(self._buffer[8:end])  # noqa: S301 (of our own)
        del self._buffer[:end]
        if isinstance(said, BaseException):
            raise said
        return said


def is_worth_it(path: Path) -> bool:
    """Whether a file is large enough for a process more."""
    return path.stat().st_size >= _WORTH_IT


class _StandIn(ComparingCheck):
    """Says what the check found in the other process."""

    def __init__(self, helper: Helper, check: ComparingCheck) -> None:
        self._helper, self._check, self._seen = helper, check, Seen()

    @property
    def names(self) -> tuple[str, ...]:
        return self._check.names

    def look(self, record: Record) -> None:
        """The check itself sees the record in the other process."""
        self._seen = Seen(self._seen.records + 1, record.line, record.byte_offset)

    def finish(self, reread: Reread | None) -> Iterable[LateRemark]:
        return self._helper.late(self._seen)


class _LookingRun(Run):
    """Shows records to the checks, and keeps no finding."""

    def __init__(self, reader: RecordReader, checks: Sequence[ComparingCheck], places: Places) -> None:
        super().__init__(reader, "structure", None, IssueLog(0), None, (), checks, places)
        self.seen = Seen()

    def _look(self, record: Record) -> list[Issue]:
        self.seen = Seen(self.seen.records + 1, record.line, record.byte_offset)
        return super()._look(record)


def _serve(answer: int, work: Callable[[Callable[[object], None]], None]) -> None:
    """The child: never returns."""

    def say(said: object) -> None:
        content = pickle.dumps(said, protocol=pickle.HIGHEST_PROTOCOL)
        rest = memoryview(len(content).to_bytes(8, "big") + content)
        while rest:
            rest = rest[os.write(answer, rest) :]

    status = 1
    try:
        try:
            work(say)
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 (raised in the parent)
            say(error)
        status = 0
    except (BrokenPipeError, KeyboardInterrupt):
        pass  # nobody waits any more
    finally:
        os._exit(status)
