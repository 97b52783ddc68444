"""Being stopped from outside: SIGTERM, SIGINT and `control.json`. A stop is asked for here and obeyed between steps."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from brightrun.trainer.outcomes import ExitCode

CONTROL_FILE = "control.json"
ACTIONS = ("stop", "checkpoint_and_stop", "pause")


@dataclass(frozen=True)
class StopRequest:
    """code: `preempted` (signal), `stopped` or `paused` (control file). checkpoint: save what was reached first."""

    code: str
    message: str
    checkpoint: bool = True


class Control:
    """Listens for requests to stop. `bind` it to the run directory once that is known to be ours."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._path: Path | None = None
        self._reported: tuple[int, int] | None = None
        self.unreadable: str | None = None
        """A control file that could not be obeyed, once, for a warning; reset by the reader."""

    def listen(self) -> None:
        """Take over SIGTERM and SIGINT. The second one ends the process at once, without a checkpoint."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def bind(self, run_dir: Path) -> None:
        self._path = run_dir / CONTROL_FILE

    def request(self) -> StopRequest | None:
        """What was asked for, if anything. Cheap enough for every step: a flag and one `stat`."""
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            return StopRequest("preempted", f"Stopped by {name}.")
        return self._from_file()

    def obeyed(self) -> None:
        """Take the control file away, so that the next start runs on."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _from_file(self) -> StopRequest | None:
        if self._path is None:
            return None
        try:
            info = self._path.stat()
        except FileNotFoundError:
            return None
        stamp = (info.st_mtime_ns, info.st_size)
        try:
            action = json.loads(self._path.read_bytes())["action"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            # It may be half written: it is looked at again at the next step, and complained of once per version.
            self._complain(stamp, f"{self._path.name} is not a JSON object with an action: {error}")
            return None
        match action:
            case "stop":
                return StopRequest("stopped", "Stopped by control.json, without a new checkpoint.", checkpoint=False)
            case "checkpoint_and_stop":
                return StopRequest("stopped", "Stopped by control.json, after a checkpoint.")
            case "pause":
                return StopRequest("paused", "Paused by control.json, after a checkpoint.")
        self._complain(stamp, f"{self._path.name} has action {action!r}; known are {', '.join(ACTIONS)}")
        return None

    def _complain(self, stamp: tuple[int, int], message: str) -> None:
        if stamp != self._reported:
            self._reported = stamp
            self.unreadable = message

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._signal is not None:
            os._exit(ExitCode.PREEMPTED)
        self._signal = number
