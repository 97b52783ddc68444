"""Where the time goes from the start of the process to its first step."""

import time

import psutil


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
