"""The dataset endpoints that upload.js talks to, in memory, with faults on demand. It checks what it is sent."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PART = 64 * 1024


@dataclass
class FakeUploads:
    csrf: str
    created: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[int, bytes] = field(default_factory=dict)
    whole: bytes | None = None
    confirmed: int = 0
    deleted: int = 0
    most_at_once: int = 0
    use_parts: bool = True
    fail_next: list[int] = field(default_factory=list)
    """Statuses that the next part PUTs answer with, instead of storing."""
    refuse_create: dict[str, Any] | None = None
    hold_after: int | None = None
    """Parts after this many wait until `release`."""
    hold_confirm: bool = False
    release: asyncio.Event = field(default_factory=asyncio.Event)
    generation: int = 0
    """Signed URLs of an older generation have expired."""
    _now: int = 0

    def routes(self) -> list[Route]:
        return [
            Route("/api/datasets", self.create, methods=["POST"]),
            Route("/api/datasets/d1/upload", self.status, methods=["GET"]),
            Route("/api/datasets/d1/upload", self.delete, methods=["DELETE"]),
            Route("/api/datasets/d1/confirm", self.confirm, methods=["POST"]),
            Route("/datasets/d1", self.page),
            Route("/storage/part/{generation:int}/{number:int}", self.part, methods=["PUT"]),
            Route("/storage/whole", self.put_whole, methods=["PUT"]),
            Route("/storage/complete", self.complete, methods=["POST"]),
        ]

    def _ok(self, data: Any, status: int = 200) -> Response:
        return JSONResponse({"success": True, "data": data}, status_code=status)

    def _layout(self) -> dict[str, Any]:
        size = self.created[-1]["file_size"]
        numbers = range(1, (size + PART - 1) // PART + 1)
        return {
            "upload_id": "u1",
            "part_size": PART,
            "size": size,
            "complete": False,
            "stored": [{"number": number, "size": len(body)} for number, body in sorted(self.stored.items())],
            "parts": [
                {"number": number, "url": f"/storage/part/{self.generation}/{number}"}
                for number in numbers
                if number not in self.stored
            ],
            "complete_url": "/storage/complete",
            "status_url": "/api/datasets/d1/upload",
        }

    async def create(self, request: Request) -> Response:
        assert request.headers["x-csrf-token"] == self.csrf
        if self.refuse_create is not None:
            return JSONResponse(self.refuse_create, status_code=400)
        self.created.append(await request.json())
        layout = self._layout() if self.use_parts else None
        if layout is not None:
            assert layout["stored"] == []
        data = {"dataset": {"id": "d1"}, "uploadUrl": "/storage/whole", "storagePath": "x", "multipart": layout}
        return self._ok(data, 201)

    async def status(self, _request: Request) -> Response:
        if not self.created or self.deleted:
            return JSONResponse({"error": "There is no such dataset", "code": "not_found"}, status_code=404)
        return self._ok({"dataset": {"id": "d1"}, "multipart": self._layout(), "uploaded": self.whole is not None})

    async def part(self, request: Request) -> Response:
        assert "x-csrf-token" not in request.headers, "a signed URL gets no token of ours"
        number = request.path_params["number"]
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            body = await request.body()
            if request.path_params["generation"] != self.generation:
                return JSONResponse({"error": "This URL has expired", "code": "url_expired"}, status_code=403)
            if self.fail_next:
                return Response(status_code=self.fail_next.pop(0))
            if self.hold_after is not None and len(self.stored) >= self.hold_after:
                await self.release.wait()
            self.stored[number] = body
            return self._ok({"part": {"number": number}})
        finally:
            self._now -= 1

    async def put_whole(self, request: Request) -> Response:
        self.whole = await request.body()
        return self._ok({"object": {}}, 201)

    async def complete(self, _request: Request) -> Response:
        self.whole = b"".join(body for _, body in sorted(self.stored.items()))
        return self._ok({"object": {"size": len(self.whole)}})

    async def confirm(self, request: Request) -> Response:
        assert request.headers["x-csrf-token"] == self.csrf
        if self.hold_confirm:
            return JSONResponse({"error": "Busy", "code": "unavailable"}, status_code=503)
        self.confirmed += 1
        return self._ok({"dataset": {"id": "d1"}})

    async def delete(self, request: Request) -> Response:
        assert request.headers["x-csrf-token"] == self.csrf
        self.deleted += 1
        return self._ok({"dataset": {"id": "d1"}})

    async def page(self, _request: Request) -> Response:
        return Response("<title>dataset page</title><link rel=icon href=data:,>", media_type="text/html")
