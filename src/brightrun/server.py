"""The ASGI application: rooms, middleware, start and stop.

`create_app(platform)` for a process that has its parts already (tests, `brightrun up`); `from_environment()` is what
an ASGI server imports (`uvicorn --factory brightrun.server:from_environment`).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from starlette.staticfiles import StaticFiles

import brightrun
from brightrun.accounts import api as accounts_api
from brightrun.accounts import pages as accounts_pages
from brightrun.db.migrate import head_revision
from brightrun.errors import UnavailableError
from brightrun.page_chrome import build_page
from brightrun.platform import Platform
from brightrun.web import errors
from brightrun.web.assets import STATIC
from brightrun.web.security import RequestEnvelope

JSON_BODY_LIMIT = 2 * 1024 * 1024


def _lifespan(platform: Platform) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    return lifespan


def create_app(platform: Platform) -> FastAPI:
    app = FastAPI(
        title="BrightRun",
        version=brightrun.__version__,
        description="Documents to conversations to datasets to LoRA adapters, with proof.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(platform),
    )
    app.state.platform = platform
    app.state.store = platform.store
    app.state.build_page = build_page
    errors.install(app)
    for router in (accounts_api.router, accounts_pages.router):
        app.include_router(router)
    _probes(app, platform)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(
        RequestEnvelope, connect_origin=lambda: None, https=platform.public_url.startswith("https://")
    )
    return app


def _probes(app: FastAPI, platform: Platform) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> dict[str, str]:
        """The process can serve: the database answers and has this version's schema."""
        async with platform.db.transaction() as session:
            revision = await session.scalar(text("select version_num from alembic_version"))
        if revision != head_revision():
            raise UnavailableError(f"the database is at revision {revision}, this version needs {head_revision()}")
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
