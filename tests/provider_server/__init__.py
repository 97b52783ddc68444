"""A provider of language models for tests and benchmarks: a process of its own that speaks the real protocols.

Claude's Messages, token counts, models and message batches, and OpenAI's chat completions; with the failures that the
real ones have. It counts what it was asked and what it would have charged: the server is the truth.

    with running(latency_s=0.2, every={"429": 10}) as provider:
        environment |= provider.environment()
        ...
        assert provider.stats()["distinct"] == 2000
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KEY = "sk-ant-test-key-0123456789-wxyz"


@dataclass(frozen=True)
class Provider:
    """A running server. url: without a path."""

    url: str
    pid: int

    def environment(self) -> dict[str, str]:
        """Variables that point every client at it."""
        return {
            "BRIGHTRUN_ANTHROPIC_BASE_URL": self.url,
            "BRIGHTRUN_OPENAI_BASE_URL": f"{self.url}/v1",
            "ANTHROPIC_API_KEY": KEY,
            "OPENAI_API_KEY": KEY,
        }

    def stats(self) -> dict[str, Any]:
        """See `state.State.told`."""
        return self._call("stats")  # type: ignore[no-any-return]

    def requests(self) -> list[dict[str, Any]]:
        """The last admitted requests, oldest first: {sha256, path, body, headers, at}."""
        return self._call("requests")  # type: ignore[no-any-return]

    def configure(self, **options: Any) -> None:
        """Change options; what was counted stays."""
        self._call("options", options)

    def reset(self, **options: Any) -> None:
        """As just started, with these options."""
        self._call("reset", options)

    def _call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.url}/_control/{path}", data=data, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def running(**options: Any) -> Iterator[Provider]:
    """options: fields of `options.Options`. The process dies with this one, however this one dies."""
    command = [sys.executable, str(HERE), "--options", json.dumps(options), "--until-stdin-ends"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the provider server did not start: exit {process.wait(10)}")
        yield Provider(json.loads(line)["url"], process.pid)
    finally:
        process.terminate()
        process.wait(10)
