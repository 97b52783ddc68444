"""Templates in, HTML out. Every page and every fragment goes through `render`.

A template is `templates/<room>/<page>.html`. It may use, without importing anything:
`page` (PageContext or None), `csrf_token`, `csrf_field()`, `ui.<macro>` (every macro of templates/components/),
`icon()`, `asset()`, `status_look()`, `url_with()`, and the filters of `brightrun.web.filters`.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse

from brightrun.web import navigation, toasts
from brightrun.web.assets import asset, icon
from brightrun.web.filters import FILTERS
from brightrun.web.page_context import PageContext, theme_from_cookies
from brightrun.web.statuses import known_statuses, status_look

TEMPLATES = Path(__file__).parent / "templates"
CSRF_FIELD = "csrf_token"

_csrf: ContextVar[str] = ContextVar("csrf_token")
_request: ContextVar[Request] = ContextVar("request")


class Templates(FileSystemLoader):
    """A template that was edited is read again. Looked at once a second at most: a page asks dozens of times."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        source, path, changed = super().get_source(environment, template)
        looked = time.monotonic()

        def is_up_to_date() -> bool:
            nonlocal looked
            now = time.monotonic()
            if now - looked < 1.0:
                return True
            looked = now
            return changed()

        return source, path, is_up_to_date


class Components:
    """`ui`: every public macro of `templates/components/*.html` by its name, in any template or block."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._home: dict[str, str] = {}

    def find(self) -> None:
        """Learn where each macro lives. Components use one another, so `ui` must be a global before this runs."""
        for name in self._environment.list_templates(filter_func=lambda path: path.startswith("components/")):
            for macro in vars(self._environment.get_template(name).module):
                if macro.startswith("_"):
                    continue
                if macro in self._home:
                    raise RuntimeError(f"two components are called {macro}: in {self._home[macro]} and in {name}")
                self._home[macro] = name

    def __getattr__(self, macro: str) -> Callable[..., Markup]:
        if macro.startswith("_") or macro not in self._home:
            raise AttributeError(f"no component is called {macro!r}; there are: {', '.join(sorted(self._home))}")
        component: Callable[..., Markup] = getattr(self._environment.get_template(self._home[macro]).module, macro)
        return component

    def names(self) -> list[str]:
        return sorted(self._home)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The one Jinja2 environment; a template that is edited is read again."""
    made = Environment(
        loader=Templates(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    made.filters.update(FILTERS)
    made.globals.update(
        asset=asset,
        icon=icon,
        svg=icon,  # for macros that have a parameter called icon
        csrf_field=csrf_field,
        url_with=url_with,
        request_path=request_path,
        status_look=status_look,
        known_statuses=known_statuses,
        rooms=navigation.ROOMS,
        housekeeping=navigation.HOUSEKEEPING,
        is_current=navigation.is_current,
    )
    components = Components(made)
    made.globals["ui"] = components
    components.find()
    return made


def render(
    request: Request, template: str, *, status: int = 200, block: str | None = None, **context: Any
) -> HTMLResponse:
    """A page, or with `block` one block of it (what htmx or a live region asked for).

    Takes the layout's data from `request.state.page` (PageContext; absent or None: signed out). The CSRF token is
    `csrf_token` of the context, else the page's, else `request.state.csrf_token`. A name that the template uses and
    nobody gave raises `jinja2.UndefinedError`.
    """
    page: PageContext | None = getattr(request.state, "page", None)
    token = context.get(CSRF_FIELD) or (page.csrf_token if page else getattr(request.state, CSRF_FIELD, "")) or ""
    values = {
        "request": request,
        "page": page,
        "status": status,
        CSRF_FIELD: token,
        "theme": page.theme if page else theme_from_cookies(request.cookies),
        "toast": toasts.take_toast(request) if block is None else None,
        **context,
    }
    found = environment().get_template(template)
    csrf_reset, request_reset = _csrf.set(token), _request.set(request)
    try:
        html = found.render(values) if block is None else _render_block(template, block, values)
    finally:
        _csrf.reset(csrf_reset)
        _request.reset(request_reset)
    response = HTMLResponse(html, status_code=status, headers={"Vary": "HX-Request, Cookie"})
    if block is None and toasts.COOKIE in request.cookies:
        response.delete_cookie(toasts.COOKIE, path="/", httponly=True, samesite="lax")
    return response


def _render_block(template: str, block: str, values: dict[str, Any]) -> str:
    found = environment().get_template(template)
    if block not in found.blocks:
        raise LookupError(f"{template} has no block {block!r}; it has: {', '.join(sorted(found.blocks))}")
    return "".join(found.blocks[block](found.new_context(values)))


def is_fragment_request(request: Request) -> bool:
    """Does htmx ask for a part of the page (and not for a whole page, as on a history restore)?"""
    headers = request.headers
    return headers.get("HX-Request-Type") == "partial" and not headers.get("HX-History-Restore-Request")


def csrf_field() -> Markup:
    """The hidden field that every form with a POST carries."""
    token = _csrf.get("")
    if not token:
        raise RuntimeError("this page has a form but no CSRF token: pass csrf_token, or set request.state.csrf_token")
    return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, token)


def request_path() -> str:
    """This page's path, without its query: where a filter form goes."""
    return _request.get().url.path


def url_with(**changes: Any) -> str:
    """This page's address with some query parameters changed; None or "" removes one. State is in the URL."""
    request = _request.get()
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in changes]
    kept += [(key, str(value)) for key, value in changes.items() if value not in {None, ""}]
    query = str(QueryParams(kept))
    return f"{request.url.path}?{query}" if query else request.url.path
