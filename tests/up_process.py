"""`brightrun up` as its users start it: a process of its own, with everything below it."""

import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import psutil

START_S = 120.0


class Up:
    """A running `brightrun up --data DIR --port 0 --json`."""

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        self.log = (data / "up.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "brightrun", "up", "--data", str(data), "--json", *(arguments or ("--port", "0"))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "BRIGHTRUN_MIN_FREE_DISK_BYTES": "0", **environment},
            start_new_session=True,
        )
        try:
            self.ready: dict[str, Any] = json.loads(self._line())
        except BaseException:
            self.process.kill()
            raise
        self.url: str = self.ready["url"]
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.ready['api_token']}"}, timeout=60
        )

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(START_S), f"not ready after {START_S:.0f} s:\n{self.tail()}"
        line = self.process.stdout.readline()
        assert line, f"`up` ended with {self.process.wait()}:\n{self.tail()}"
        return line

    def tail(self) -> str:
        return (self.data / "up.log").read_text(errors="replace")[-4000:]

    def child(self, name: str) -> psutil.Process:
        """The server or the worker."""
        for process in psutil.Process(self.process.pid).children():
            if process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[-1:] == [name]:
                return process
        raise AssertionError(f"no {name} below `up`:\n{self.tail()}")

    def stop(self, number: int = signal.SIGTERM, *, timeout: float = 120) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            assert self.process.stdout is not None
            self.rest = self.process.stdout.read() if number != signal.SIGKILL else b""
            self.log.close()

    def kill(self) -> None:
        """kill -9 of `up` itself; what lives below it is left to itself."""
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.log.close()


def processes_of(data: Path) -> list[psutil.Process]:
    """Every live process that has to do with a data directory: by command line, environment or open file."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            told = [*process.cmdline(), process.environ().get("BRIGHTRUN_DATA", ""), process.cwd()]
            if any(str(data) in text for text in told):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
