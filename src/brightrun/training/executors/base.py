"""What a supervisor asks of a place where trainers run. `local` is the first; clusters and rented GPUs follow it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


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

    def stop(self) -> None:
        """Ask it to save a checkpoint and end (exit code 75)."""
        ...

    def kill(self) -> None:
        """End it now, with everything that it started."""
        ...

    def is_gone(self) -> bool:
        """True when nothing of it is left, its children included."""
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
