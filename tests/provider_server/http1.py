"""HTTP/1.1 over asyncio, as little of it as a model server needs: many connections, small bodies, an answer later."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import httptools

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
           413: "Content Too Large", 429: "Too Many Requests", 500: "Internal Server Error",
           529: "Overloaded"}  # fmt: skip


@dataclass(slots=True)
class Asked:
    """A request that arrived whole. reply may be called once, at any time; reset cuts the connection."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    reply: Callable[[int, dict[str, str], bytes], None]
    reset: Callable[[], None]


@dataclass(slots=True, eq=False)
class Connection(asyncio.Protocol):
    handle: Callable[[Asked], None]
    transport: asyncio.Transport | None = None
    parser: httptools.HttpRequestParser | None = None
    url: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if self.transport is not None:
                self.transport.close()

    # --- httptools calls these ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.url, self.headers, self.parts = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.headers.get("expect") and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        assert self.parser is not None
        path, _, query = self.url.decode("latin-1").partition("?")
        self.handle(
            Asked(
                method=self.parser.get_method().decode(),
                path=unquote(path),
                query=parse_qs(query),
                headers=self.headers,
                body=b"".join(self.parts),
                reply=self.reply,
                reset=self.reset,
            )
        )

    # -----------------------------------------------------------------------------------------------------------------

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        if self.transport is None:  # The client has gone; what it asked for was done and counted all the same.
            return
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"content-length: {len(body)}"]
        lines.extend(f"{name}: {value}" for name, value in headers.items())
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def reset(self) -> None:
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def serve(handle: Callable[[Asked], None], host: str, port: int) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(handle), host, port, backlog=4096)
