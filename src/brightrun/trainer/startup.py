"""Where the time goes from the start of the process to its first step."""

import contextlib
import gc
import time
from collections.abc import Iterator

import psutil


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """No garbage collection while the ML libraries are imported: they leave none, and looking for it takes a fifth of
    the time (measured: 2.8 s of processor time instead of 3.5 s).
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class StartUp:
    """Seconds since the process began, cut into parts: `interpreter` (Python and what is small), `data` (hashes and
    tokens), `imports` (the ML libraries), `model` (weights, adapter, checkpoint), `baseline` (sample answers and
    held-out loss of the untouched model, not in a resumed run), `first_step`.
    """

    def __init__(self) -> None:
        self._began = time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())
        self._last = self._began
        self.parts: dict[str, float] = {}

    def reached(self, part: str) -> None:
        """`part` is over. The time since the part before is its."""
        now = time.monotonic()
        self.parts[part] = round(self.parts.get(part, 0.0) + now - self._last, 3)
        self._last = now

    @property
    def report(self) -> dict[str, float]:
        """Every part and their sum, in seconds."""
        return {**self.parts, "total": round(self._last - self._began, 3)}

    @property
    def words(self) -> str:
        parts = ", ".join(f"{part.replace('_', ' ')} {seconds:.1f} s" for part, seconds in self.parts.items())
        return f"{self.report['total']:.1f} s after the process began: {parts}"
