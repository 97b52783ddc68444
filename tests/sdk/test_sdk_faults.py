"""The SDK while the server restarts, refuses, or breaks off: a server that is scripted, over a real socket."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from brightrun.errors import UnavailableError
from brightrun.sdk import ApiError, Client
from live import Live, Member

Answer = Callable[[BaseHTTPRequestHandler], None]


def says(status: int, body: Any) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def job(status: str) -> Answer:
    return says(200, {"success": True, "data": {"job": {"id": "j", "status": status}}})


def refuses(status: int, code: str) -> Answer:
    return says(status, {"error": "no", "code": code})


def stream(handler: BaseHTTPRequestHandler) -> None:
    """One event, and then the stream ends, as at a server's stop."""
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.end_headers()
    handler.wfile.write(b'id: 1\nevent: job\ndata: {"id": "j"}\n\n')


@contextmanager
def scripted(**script: list[Answer]) -> Iterator[tuple[Client, list[str]]]:
    """events, get: the answers to requests of each kind, in order; the last one goes on."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            kind = "events" if self.path.startswith("/api/events") else "get"
            asked.append(self.path)
            left = script[kind]
            (left.pop(0) if len(left) > 1 else left[0])(self)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Client(f"http://127.0.0.1:{server.server_address[1]}", "br_x") as client:
            yield client, asked
    finally:
        server.shutdown()
        server.server_close()


def test_waiting_survives_a_stream_that_ends_and_a_server_that_is_away():
    script = {
        "events": [stream, refuses(503, "unavailable"), stream],
        "get": [job("running"), job("running"), refuses(502, "bad_gateway"), job("running"), job("completed")],
    }
    with scripted(**script) as (client, _asked):
        assert client.jobs.wait("j")["status"] == "completed"


@pytest.mark.parametrize(("status", "code"), [(401, "token_invalid"), (403, "scope"), (404, "not_found")])
def test_waiting_ends_with_the_servers_words_when_it_may_not_go_on(status: int, code: str):
    with scripted(events=[stream], get=[job("running"), refuses(status, code)]) as (client, _asked):
        with pytest.raises(ApiError) as raised:
            client.jobs.wait("j")
        assert (raised.value.status, raised.value.code) == (status, code)


def test_a_download_that_breaks_off_leaves_nothing_and_says_so(tmp_path: Path):
    def broken(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b"only this much")

    with scripted(get=[broken]) as (client, _asked), pytest.raises(UnavailableError, match="broke off"):
        client.models.download("m", tmp_path / "model.zip")
    assert list(tmp_path.iterdir()) == []


def test_an_id_stays_one_part_of_the_address(live: Live, owner: Member):
    with Client(live.url, owner.token) as client, pytest.raises(ApiError) as raised:
        client.datasets.get("../me")
    assert raised.value.status == 404
