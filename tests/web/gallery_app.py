"""A small application around the gallery: the same layout, assets, headers and client scripts as the real server."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import uvicorn
from fake_uploads import FakeUploads
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from brightrun.clock import utcnow
from brightrun.ids import uuid7
from brightrun.web import toasts, views
from brightrun.web.assets import STATIC_URL, BuiltAssets
from brightrun.web.page_context import PageContext, WorkspaceChoice, theme_from_cookies
from brightrun.web.security import RequestEnvelope

TOKEN = "csrf-token-of-this-test"


def page_context(request: Request, **changes: Any) -> PageContext:
    here = WorkspaceChoice(id=uuid7(), name="Bright Harbor Advisors", role="owner")
    values: dict[str, Any] = {
        "user_name": "Ana Ruiz",
        "user_email": "ana@example.com",
        "workspace_id": here.id,
        "workspace_name": here.name,
        "workspaces": [here, WorkspaceChoice(id=uuid7(), name="Sandbox", role="trainer")],
        "role": "owner",
        "csrf_token": TOKEN,
        "path": request.url.path,
        "nav_counts": {"datasets": 12, "training": 3},
        "active_jobs": 3,
        "spend_this_month": Decimal("412.80"),
        "unread_notifications": 4,
        "theme": theme_from_cookies(request.cookies),
    }
    return PageContext(**{**values, **changes})


@dataclass
class Backend:
    """What a test puts in and looks at."""

    posted: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    events: "list[tuple[str, dict[str, Any]]]" = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop | None = None
    losses: dict[str, list[list[float]]] = field(
        default_factory=lambda: {
            "train": [
                [step, 2.4 * 0.997**step + 0.4 + 0.05 * (step * 7919 % 13 - 6) / 6] for step in range(0, 1200, 8)
            ],
            "heldout": [[step, 2.4 * 0.9975**step + 0.55] for step in range(0, 1200, 100)],
        }
    )
    uploads: FakeUploads = field(default_factory=lambda: FakeUploads(csrf=TOKEN))
    url: str = ""

    def on_loop(self, action: Callable[[], object]) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(action)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until the server's thread has made it true; asked on the server's own loop, between its steps."""
        assert self.loop is not None

        async def watch() -> None:
            async with asyncio.timeout(20):
                while not condition():
                    await asyncio.sleep(0.01)

        asyncio.run_coroutine_threadsafe(watch(), self.loop).result()

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        assert self.loop is not None
        self.events.append((topic, data))
        self.loop.call_soon_threadsafe(self.wake.set)


def build(backend: Backend) -> Starlette:
    jobs = [
        SimpleNamespace(name=name, model=model, status=status, progress=share, cost=cost)
        for name, model, status, share, cost in [
            ("support-triage-v4", "qwen3-8b", "running", 0.65, Decimal("4.18")),
            ("invoice-extract", "llama-3.3-70b", "initializing", 0.31, Decimal("11.90")),
            ("faq-rewrite", "gpt-oss-20b", "queued", 0.0, None),
            ("tone-classifier", "qwen3-4b", "completed", 1.0, Decimal("2.03")),
            ("contracts-ner", "qwen3-8b", "failed", 0.44, Decimal("1.36")),
            ("night-run", "tiny", "interrupted", 0.8, Decimal("0.0042")),
        ]
    ]

    async def gallery(request: Request) -> Response:
        request.state.page = page_context(request)
        wanted = request.query_params.get("status")
        return views.render(
            request,
            "dev/gallery.html",
            jobs=[job for job in jobs if not wanted or job.status == wanted],
            started=utcnow() - timedelta(minutes=12),
            status_options=[(status, status.capitalize()) for status in ("queued", "running", "completed", "failed")],
        )

    async def header(request: Request) -> Response:
        request.state.page = page_context(request, unread_notifications=len(backend.events) + 4)
        return views.render(request, "partials/header_status.html")

    async def losses(request: Request) -> Response:
        after = float(request.query_params.get("after", -1))
        data = {name: [point for point in points if point[0] > after] for name, points in backend.losses.items()}
        return JSONResponse({"success": True, "data": data})

    async def events(request: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            sent = int(request.headers.get("last-event-id") or 0)
            yield "retry: 2000\n"
            while True:
                for number, (topic, payload) in enumerate(backend.events[sent:], start=sent + 1):
                    data = json.dumps({"id": number, "topic": topic, "kind": "job.updated", "payload": payload})
                    yield f"id: {number}\nevent: job.updated\ndata: {data}\n\n"
                sent = len(backend.events)
                backend.wake.clear()
                await backend.wake.wait()

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def echo(request: Request) -> Response:
        form = await request.form()
        backend.posted.append((request.url.path, {key: str(value) for key, value in form.items()}))
        return toasts.toast_redirect(
            request, "/", toasts.Toast(title="Dataset deleted", description="“support-triage”", undo_url="/undo")
        )

    async def account(request: Request) -> Response:
        name = request.path_params["name"]
        errors = {"": ["The e-mail or the password is wrong."]} if request.query_params.get("wrong") else {}
        return views.render(
            request, f"accounts/{name}.html", csrf_token=TOKEN, errors=errors, email="ana@example.com",
            name="", token="t0ken",
            next="/", signup_enabled=True, oidc_label="Example ID", workspace_name="Bright Harbor", role="reviewer",
        )  # fmt: skip

    async def missing(request: Request, _error: Exception) -> Response:
        return views.render(
            request, "errors/error.html", status=404, title="Not found",
            message="There is nothing at this address", request_id="0197f3a2-77aa",
        )  # fmt: skip

    app = Starlette(
        routes=[
            Route("/", gallery),
            Route("/partials/header-status", header),
            Route("/loss.json", losses),
            Route("/api/events", events),
            Route("/echo", echo, methods=["POST"]),
            Route("/undo", echo, methods=["POST"]),
            Route("/accounts/{name}", account),
            *backend.uploads.routes(),
            Mount(STATIC_URL, BuiltAssets()),
        ],
        exception_handlers={404: missing},
    )
    app.state.signing_key = b"k" * 32
    app.add_middleware(RequestEnvelope, connect_origins=(), https=False)

    return app


@contextmanager
def serve(app: Starlette, backend: Backend) -> Iterator[str]:
    """Run it on a free port in a thread; yields its URL."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    )
    started = threading.Event()

    async def run() -> None:
        backend.loop = asyncio.get_running_loop()
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        started.set()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(20)
    port = server.servers[0].sockets[0].getsockname()[1]
    backend.url = f"http://127.0.0.1:{port}"
    try:
        yield backend.url
    finally:
        server.should_exit = server.force_exit = True  # open event streams need not end first
        thread.join(10)
