"""The ASGI application: rooms, middleware, start and stop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

import brightrun
from brightrun import overview_pages
from brightrun.accounts import api as accounts_api
from brightrun.accounts import audit_api, audit_pages, live, oidc, settings_pages, settings_team_pages
from brightrun.accounts import pages as accounts_pages
from brightrun.accounts.context import page_context
from brightrun.costs import api as costs_api
from brightrun.costs import pages as costs_pages
from brightrun.datasets import api as datasets_api
from brightrun.datasets import convert_pages as datasets_convert_pages
from brightrun.datasets import mask_api, mask_pages
from brightrun.datasets import mend_pages as datasets_mend_pages
from brightrun.datasets import pages as datasets_pages
from brightrun.datasets import record_pages as datasets_record_pages
from brightrun.db.migrate import head_revision
from brightrun.errors import UnavailableError
from brightrun.generation import api as generation_api
from brightrun.generation import new_pages as generation_new_pages
from brightrun.generation import pages as generation_pages
from brightrun.generation import provider_api, provider_pages
from brightrun.models import api as models_api
from brightrun.models import pages as models_pages
from brightrun.notifications import api as notifications_api
from brightrun.notifications import pages as notifications_pages
from brightrun.notifications import settings_pages as notification_settings_pages
from brightrun.notifications import webhook_api
from brightrun.page_chrome import build_page
from brightrun.platform import Platform, derive_key
from brightrun.queue.events import EventHub
from brightrun.rooms import import_tables, import_tasks
from brightrun.scaffolding import api as scaffolding_api
from brightrun.scaffolding import match_pages as scaffolding_match_pages
from brightrun.scaffolding import pages as scaffolding_pages
from brightrun.storage import api as storage_api
from brightrun.storage.give_way import CountAwaited, GiveWay
from brightrun.storage.signing import ROOT as STORAGE_URL
from brightrun.training import action_pages as job_action_pages
from brightrun.training import api as training_api
from brightrun.training import bulk_pages, list_pages, queue_pages
from brightrun.training import new_pages as new_job_pages
from brightrun.training import pages as training_pages
from brightrun.training import record_pages as job_record_pages
from brightrun.training.comparison import api as comparison_api
from brightrun.training.comparison import pages as comparison_pages
from brightrun.training.estimates import api as estimates_api
from brightrun.training.estimates import pages as estimates_pages
from brightrun.training.labels import api as labels_api
from brightrun.training.templates import api as templates_api
from brightrun.training.templates import pages as templates_pages
from brightrun.web import errors
from brightrun.web import pages as web_pages
from brightrun.web.assets import STATIC_URL, BuiltAssets
from brightrun.web.security import RequestEnvelope

ROUTERS = (
    accounts_api.router,
    live.router,
    audit_api.router,
    notifications_api.router,
    webhook_api.router,
    costs_api.router,
    costs_api.budget_router,
    scaffolding_api.router,
    generation_api.router,
    provider_api.router,
    datasets_api.router,
    mask_api.router,
    estimates_api.router,
    labels_api.router,
    comparison_api.router,
    training_api.router,
    templates_api.router,
    models_api.router,
    accounts_pages.router,
    oidc.router,
    settings_pages.router,
    settings_team_pages.router,
    audit_pages.router,
    costs_pages.router,
    overview_pages.router,
    generation_new_pages.router,
    generation_pages.router,
    scaffolding_match_pages.router,
    scaffolding_pages.router,
    datasets_pages.router,
    mask_pages.router,
    datasets_record_pages.router,
    datasets_mend_pages.router,
    datasets_convert_pages.router,
    notifications_pages.router,
    notification_settings_pages.router,
    provider_pages.router,
    new_job_pages.router,
    templates_pages.router,
    estimates_pages.router,
    queue_pages.router,
    job_record_pages.router,
    list_pages.router,
    comparison_pages.router,
    bulk_pages.router,
    training_pages.router,
    job_action_pages.router,
    models_pages.router,
    storage_api.router,
)


READY_S = 5.0
"""Who asks `/readyz` gives up soon, too."""


def _lifespan(hub: EventHub) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await hub.start()
        yield
        await hub.close()

    return lifespan


def create_app(platform: Platform) -> FastAPI:
    """The application on `platform`. Whoever runs it closes `app.state.hub` first when it stops: open streams end."""
    import_tables()
    import_tasks()  # Asking for a task by name needs it registered.
    hub = EventHub(platform.db)
    app = FastAPI(
        title="BrightRun",
        version=brightrun.__version__,
        description="Documents to conversations to datasets to LoRA adapters, with proof.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(hub),
    )
    app.state.platform = platform
    app.state.store = platform.store
    app.state.hub = hub
    app.state.give_way = GiveWay()
    app.state.build_page = build_page
    app.state.signing_key = derive_key(platform.secret, "toasts")
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(web_pages.router, dependencies=[Depends(page_context, scope="function")])
    _probes(app, platform)
    app.mount(STATIC_URL, BuiltAssets(), name="static")
    app.add_middleware(CountAwaited, give_way=app.state.give_way, own=f"{STORAGE_URL}/")
    app.add_middleware(
        RequestEnvelope,
        connect_origins=platform.store.origins(),
        https=platform.public_url.startswith("https://"),
    )
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, without the 422 that FastAPI assumes: faults of a body answer 400 here."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        for item in document["paths"].values():
            for operation in item.values():
                operation.get("responses", {}).pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema


def _probes(app: FastAPI, platform: Platform) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> dict[str, str]:
        """The process can serve: the database answers in time and has this version's schema."""
        try:
            async with asyncio.timeout(READY_S), platform.db.transaction() as session:
                revision = await session.scalar(text("select version_num from alembic_version"))
        except TimeoutError as error:
            raise UnavailableError(f"The database does not answer within {READY_S:.0f} s") from error
        if revision != head_revision():
            raise UnavailableError(f"the database is at revision {revision}, this version needs {head_revision()}")
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
