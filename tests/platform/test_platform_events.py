"""A page's stream of events over real HTTP: a server that is killed loses nothing that happened meanwhile."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from platform_steps import announce, records, upload

from up_process import Up
from waiting import eventually


class Stream:
    """What an EventSource does: remembers the last id, connects again with it, keeps what it hears."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self._news: queue.Queue[dict[str, Any]] = queue.Queue()
        self.last_id = ""
        self.heard: list[dict[str, Any]] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Connected until the block ends, or the server does."""
        connected, done = threading.Event(), threading.Event()

        def listen() -> None:
            headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
            try:
                with self._client.stream("GET", "/api/events", headers=headers, timeout=60) as response:
                    assert response.status_code == 200
                    self._read(response.iter_lines(), connected, done)
            except (httpx2.HTTPError, httpx2.StreamError):
                connected.set()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        assert connected.wait(30), "the stream said nothing"
        yield
        done.set()

    def _read(self, lines: Iterator[str], connected: threading.Event, done: threading.Event) -> None:
        frame: dict[str, str] = {}
        for line in lines:
            if done.is_set():
                return
            if line:
                name, _, value = line.partition(": ")
                frame[name] = value
                continue
            if "id" in frame:
                self.last_id = frame["id"]
                connected.set()
            if "data" in frame:
                self._news.put({"event": frame.get("event"), **json.loads(frame["data"])})
            frame = {}

    def wait_for(self, what: str, count: int) -> None:
        """Until so many events were heard whose data has `what`."""
        while sum(what in json.dumps(event) for event in self.heard) < count:
            self.heard.append(self._news.get(timeout=60))


@pytest.mark.slow
def test_a_stream_goes_on_where_a_killed_server_cut_it(data: Path) -> None:
    up = Up(data)
    try:
        stream = Stream(up.client)
        with stream.open():
            first = announce(up.client, 10)["dataset"]["id"]
            stream.wait_for(first, 1)
            server = up.child("server")
            server.kill()
            eventually("another server", lambda: up.child("server").pid != server.pid)
            missed = upload(up.client, records())["id"]
        assert stream.heard, "something was heard before the kill"
        with stream.open():
            after = announce(up.client, 10)["dataset"]["id"]
            stream.wait_for(after, 1)
        numbers = [event["id"] for event in stream.heard]
        assert len(set(numbers)) == len(numbers), "nothing comes twice"
        kinds = [event["kind"] for event in stream.heard]
        assert "resync" not in kinds
        text = json.dumps(stream.heard)
        assert missed in text, "what happened while nobody listened is replayed"
        assert '"status": "ready"' in text, "up to its end"
        places = [text.index(dataset_id) for dataset_id in (first, missed, after)]
        assert places == sorted(places), "in the order it happened"
    finally:
        up.stop()
