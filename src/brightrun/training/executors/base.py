"""What a supervisor asks of a place where trainers run. `local` is the first; clusters and rented GPUs follow it."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class StopAction(StrEnum):
    """How a trainer is asked to end (exit code 75). The words are those of its control file."""

    STOP = "stop"
    """At the next step, without a new checkpoint."""
    SAVE = "checkpoint_and_stop"
    PAUSE = "pause"
    """As `SAVE`; the run says that it was paused."""


@dataclass(frozen=True)
class ProcessIdentity:
    """Tells a process from a later one with the same pid. started: seconds since 1970, as psutil gives it."""

    pid: int
    started: float


class NoDeviceError(Exception):
    """The devices that a job wants cannot be had here now; the message says which, and why."""


class RunningTrainer(Protocol):
    """A trainer that was launched or adopted. Its words are in the run directory; here is only its life."""

    @property
    def identity(self) -> ProcessIdentity | None:
        """None for one that is seen to live but cannot be signalled from here."""
        ...

    @property
    def exit_code(self) -> int | None:
        """Negative: killed by that signal. None while it lives, and for an adopted one: nobody saw how it ended."""
        ...

    def is_alive(self) -> bool: ...

    def stop(self, action: StopAction) -> None:
        """Ask it to end between two steps. May be asked again with another action."""
        ...

    def kill(self) -> None:
        """End it now, with everything that it started."""
        ...

    def is_gone(self) -> bool:
        """True when nothing of it is left, its children included, whatever session they moved to."""
        ...


class Executor(Protocol):
    """Every method may block; call it in a thread."""

    name: str

    def check(self, gpu_config: dict[str, Any]) -> None:
        """Raises NoDeviceError when this place does not have what the job wants."""
        ...

    def launch(self, run_dir: Path, gpu_config: dict[str, Any], *, network: bool) -> tuple[RunningTrainer, str]:
        """Start a trainer on a run directory; it outlives this process. Also which devices it has.

        network: may it download a base model? Raises NoDeviceError, OSError.
        """
        ...

    def adopt(self, run_dir: Path, identity: ProcessIdentity | None) -> RunningTrainer | None:
        """The trainer that still lives on a run directory, if any. identity: as it was when it was launched."""
        ...
