"""Templates, filters, states, toasts: what needs no browser."""

import html
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from gallery_app import TOKEN, Backend, build, page_context
from jinja2 import UndefinedError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from brightrun.errors import ConfigurationError
from brightrun.web import filters, toasts, views
from brightrun.web.page_context import PageContext
from brightrun.web.statuses import known_statuses, status_look


def in_request(action: Callable[[Request], Response], url: str = "/", **client: Any) -> Any:
    """Run `action` in a request of a small application; the answer."""

    async def endpoint(request: Request) -> Response:
        return action(request)

    app = Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST"])])
    app.state.signing_key = b"k" * 32
    return TestClient(app, follow_redirects=False, **client).get(url)


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Render a piece of template text as a page would."""

    def render(text: str, url: str = "/", **context: Any) -> str:
        found = views.environment().from_string(text)
        monkeypatch.setattr(views.environment(), "get_template", _only(found, views.environment().get_template))

        def page(request: Request) -> Response:
            request.state.page = page_context(request)
            return views.render(request, "the template", **context)

        try:
            answer = in_request(page, url)
        finally:
            monkeypatch.undo()
        assert answer.status_code == 200
        return str(answer.text)

    return render


def _only(found: Any, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    return lambda name, *rest: found if name == "the template" else otherwise(name, *rest)


# --- the gallery: every component, once ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gallery() -> str:
    return TestClient(build(Backend())).get("/").text


def test_the_gallery_shows_every_component(gallery: str) -> None:
    source = (views.TEMPLATES / "dev" / "gallery.html").read_text() + "".join(
        file.read_text() for folder in ("components", "partials") for file in (views.TEMPLATES / folder).glob("*.html")
    ) + (views.TEMPLATES / "layout.html").read_text()  # fmt: skip
    helpers = {"field_messages", "described", "menu_items", "page_link", "badge", "code"}
    unused = [
        name
        for name in views.environment().globals["ui"].names()
        if f"ui.{name}(" not in source and name not in helpers
    ]
    assert unused == []


def test_a_page_has_no_inline_style_or_script(gallery: str) -> None:
    assert not re.search(r"<[^>]+\sstyle=", gallery)
    assert not re.search(r"<[^>]+\son[a-z]+=", gallery)
    assert not re.search(r"hx-on|javascript:", gallery)
    for attributes, body in re.findall(r"<script([^>]*)>(.*?)</script>", gallery, re.S):
        assert "src=" in attributes
        assert body == ""


def test_ids_are_unique(gallery: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', gallery)
    assert sorted(set(ids)) == sorted(ids)


def test_everything_that_refers_to_an_id_finds_it(gallery: str) -> None:
    ids = set(re.findall(r'\sid="([^"]+)"', gallery))
    references = re.findall(r'\s(?:for|aria-controls|aria-labelledby|aria-describedby)="([^"]+)"', gallery)
    assert {part for reference in references for part in reference.split()} <= ids


# --- rendering --------------------------------------------------------------------------------------------------


def test_what_users_wrote_is_escaped(template: Callable[..., str]) -> None:
    evil = "<script>alert(1)</script>"
    text = template(
        "{{ ui.button(evil) }}{{ ui.stat(evil, evil) }}{{ ui.conversation([{'role': 'user', 'content': evil}]) }}"
        "{{ ui.key_values([(evil, evil)]) }}{{ ui.field('f', evil, evil, errors={'f': [evil]}) }}"
        "{{ ui.json({'a': evil}) }}{{ ui.toast(evil, evil) }}{{ ui.copyable(evil, evil) }}",
        evil=evil,
    )
    assert "<script>" not in text
    assert html.escape("<script>") in text


def test_a_name_nobody_gave_is_an_error(template: Callable[..., str]) -> None:
    with pytest.raises(UndefinedError, match="nobody_gave"):
        template("{{ nobody_gave }}")


def test_an_unknown_component_names_those_that_exist(template: Callable[..., str]) -> None:
    with pytest.raises((AttributeError, UndefinedError)):
        template("{{ ui.no_such_component() }}")
    with pytest.raises(AttributeError, match=r"there are:.*button"):
        _ = views.environment().globals["ui"].no_such_component


def test_a_form_without_a_token_is_an_error() -> None:
    def page(request: Request) -> Response:
        return views.render(request, "accounts/signin.html")

    with pytest.raises(RuntimeError, match="no CSRF token"):
        in_request(page)


def test_the_signed_out_layout_has_no_sidebar_and_no_workspace() -> None:
    def page(request: Request) -> Response:
        return views.render(request, "accounts/signin.html", csrf_token=TOKEN, oidc_label=None)

    text = in_request(page).text
    assert "signed-out" in text
    assert 'id="sidebar"' not in text
    assert f'name="csrf_token" value="{TOKEN}"' in text


def test_the_theme_of_the_cookie_is_in_the_first_byte_of_html() -> None:
    def page(request: Request) -> Response:
        return views.render(request, "accounts/signin.html", csrf_token=TOKEN)

    assert 'data-theme="dark"' in in_request(page, cookies={"brightrun_theme": "dark"}).text
    assert 'data-theme="system"' in in_request(page, cookies={"brightrun_theme": "<evil>"}).text


def test_a_block_is_rendered_alone() -> None:
    def block(request: Request) -> Response:
        return views.render(request, "errors/error.html", block="title", title="Gone")

    assert in_request(block).text == "Gone"

    def missing(request: Request) -> Response:
        return views.render(request, "errors/error.html", block="nope", title="Gone")

    with pytest.raises(LookupError, match=r"has no block 'nope'; it has: .*content"):
        in_request(missing)


def test_an_error_page_needs_nothing_but_its_message() -> None:
    def page(request: Request) -> Response:
        return views.render(request, "errors/error.html", status=503, title="Busy", message="Try again in a moment")

    answer = in_request(page, "/datasets?page=2")
    assert answer.status_code == 503
    assert "Try again in a moment" in answer.text
    assert 'href="/datasets?page=2"' in answer.text


def test_url_with_changes_one_parameter_and_keeps_the_rest(template: Callable[..., str]) -> None:
    text = template(
        "{{ url_with(page=3) }} {{ url_with(status=None, page='') }}", url="/jobs?status=a b&page=2&x=1&x=2"
    )
    assert html.unescape(text) == "/jobs?status=a+b&x=1&x=2&page=3 /jobs?x=1&x=2"


@pytest.mark.parametrize(
    ("page", "total", "shown", "links"),
    [(1, 0, "No jobs", []), (1, 25, "1–25 of 25 jobs", []), (1, 60, "1–25 of 60", ["?page=2"]),
     (2, 60, "26–50 of 60", ["/", "?page=3"]), (3, 60, "51–60 of 60", ["?page=2"])],
)  # fmt: skip
def test_pagination_says_where_one_is(
    template: Callable[..., str], page: int, total: int, shown: str, links: list[str]
) -> None:
    text = template("{{ ui.pagination(page, 25, total, 'jobs') }}", page=page, total=total)
    assert shown in text
    assert [link.removeprefix("/") or "/" for link in re.findall(r'href="([^"]+)"', text)] == links


def test_the_current_room_is_marked_once() -> None:
    def page(request: Request) -> Response:
        request.state.page = page_context(request, path="/datasets/018f/issues")
        return views.render(request, "errors/error.html", title="t", message="m")

    current = re.findall(r'<a href="([^"]+)" aria-current="page"', in_request(page).text)
    assert current == ["/datasets"]


@pytest.mark.parametrize(
    ("name", "email", "initials"),
    [
        ("Ana Ruiz", "", "AR"),
        ("Ana", "", "A"),
        ("", "bo@example.com", "be"),
        ("Ana de la Ruiz", "", "AR"),
        ("…", "", "?"),
    ],
)
def test_initials(name: str, email: str, initials: str) -> None:
    context = page_context(Request({"type": "http", "path": "/", "headers": []}), user_name=name, user_email=email)
    assert isinstance(context, PageContext)
    assert context.initials == initials


# --- states -----------------------------------------------------------------------------------------------------


def test_every_state_has_a_look_with_an_icon_of_ours() -> None:
    from brightrun.web.assets import icon

    for kind in ("dataset", "job", "model", "invitation", "token"):
        for status in known_statuses(kind):
            look = status_look(kind, status)
            assert look.label
            assert icon(look.icon)


def test_a_state_without_a_look_is_an_error_that_says_where_to_add_it() -> None:
    with pytest.raises(LookupError, match=r"job status 'levitating'.*brightrun\.web\.statuses"):
        status_look("job", "levitating")


# --- filters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (filters.number(1234567), "1,234,567"),
        (filters.number(1.5, 2), "1.50"),
        (filters.number(None), "—"),
        (filters.compact(999), "999"),
        (filters.compact(12_345), "12.3 K"),
        (filters.compact(999_600), "1 M"),
        (filters.compact(1_840_000), "1.84 M"),
        (filters.compact(2_500_000_000), "2.5 B"),
        (filters.filesize(0), "0 bytes"),
        (filters.filesize(1), "1 byte"),
        (filters.filesize(999), "999 bytes"),
        (filters.filesize(999_949), "999.9 KB"),
        (filters.filesize(999_951), "1.0 MB"),
        (filters.filesize(16_800_000), "16.8 MB"),
        (filters.money(Decimal("0")), "$0.00"),
        (filters.money(Decimal("1234.565")), "$1,234.57"),
        (filters.money(Decimal("0.004200")), "$0.0042"),
        (filters.money(Decimal("0.000001")), "$0.000001"),
        (filters.money(Decimal("-2.5")), "−$2.50"),
        (filters.money(None), "—"),
        (filters.percent(0.625), "62%"),
        (filters.percent(0.9999), "99%"),
        (filters.percent(0.9999, 1), "99.9%"),
        (filters.percent(1.0), "100%"),
        (filters.percent(None), "—"),
        (filters.duration(0.25), "0.2 s"),
        (filters.duration(9.97), "10 s"),
        (filters.duration(59.6), "1 min"),
        (filters.duration(200), "3 min 20 s"),
        (filters.duration(7500), "2 h 5 min"),
        (filters.duration(timedelta(days=3, hours=4)), "3 d 4 h"),
        (filters.duration(None), "—"),
        (filters.plural(1, "row"), "1 row"),
        (filters.plural(0, "row"), "0 rows"),
        (filters.plural(1200, "entry", "entries"), "1,200 entries"),
        (filters.relative_text(10), "just now"),
        (filters.relative_text(-10), "in a moment"),
        (filters.relative_text(720), "12 min ago"),
        (filters.relative_text(-7200), "in 2 h"),
        (filters.relative_text(86_400 * 45), "1 mo ago"),
        (filters.relative_text(86_400 * 800), "2 y ago"),
    ],
)
def test_numbers_read_as_people_write_them(shown: str, expected: str) -> None:
    assert shown == expected


def test_a_time_is_a_time_element_in_utc() -> None:
    when = datetime(2026, 1, 5, 14, 2, tzinfo=UTC)
    assert filters.moment(when) == (
        '<time datetime="2026-01-05T14:02:00+00:00" title="5 Jan 2026, 14:02 UTC" data-time="absolute">'
        "5 Jan 2026, 14:02 UTC</time>"
    )
    assert filters.ago(None) == "—"


# --- toasts -----------------------------------------------------------------------------------------------------

MESSAGE = toasts.Toast(title="Dataset deleted", description='"<b>"', undo_url="/datasets/1/restore")


def cookie_for(toast: toasts.Toast) -> str:
    answer = in_request(lambda request: toasts.toast_redirect(request, "/datasets", toast))
    assert answer.status_code == 303
    assert answer.headers["location"] == "/datasets"
    assert "toast" not in answer.headers["location"]
    return str(answer.cookies[toasts.COOKIE])


def test_a_toast_survives_one_redirect_and_is_shown_once() -> None:
    def page(request: Request) -> Response:
        request.state.page = page_context(request)
        return views.render(request, "errors/error.html", title="t", message="m")

    answer = in_request(page, cookies={toasts.COOKIE: cookie_for(MESSAGE)})
    assert "Dataset deleted" in answer.text
    assert "&lt;b&gt;" in answer.text
    assert 'action="/datasets/1/restore"' in answer.text
    assert f'{toasts.COOKIE}=""' in answer.headers["set-cookie"]


@pytest.mark.parametrize("spoil", [lambda c: c[:-2], lambda c: "x" + c, lambda c: c.replace(".", ""), lambda c: "…"])
def test_an_altered_toast_is_not_shown(spoil: Callable[[str], str]) -> None:
    taken: list[toasts.Toast | None] = []

    def page(request: Request) -> Response:
        taken.append(toasts.take_toast(request))
        return Response()

    value = spoil(cookie_for(MESSAGE))
    in_request(page, headers={"cookie": f"{toasts.COOKIE}={value}".encode()})
    assert taken == [None]


def test_an_old_toast_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[toasts.Toast | None] = []

    def page(request: Request) -> Response:
        taken.append(toasts.take_toast(request))
        return Response()

    value = cookie_for(MESSAGE)
    now = datetime.now(UTC).timestamp()
    monkeypatch.setattr(toasts.time, "time", lambda: now + toasts.LIFE_S + 5)
    in_request(page, cookies={toasts.COOKIE: value})
    assert taken == [None]


def test_htmx_gets_a_redirect_header_and_a_trigger() -> None:
    answer = in_request(
        lambda request: toasts.toast_redirect(request, "/datasets", MESSAGE), headers={"HX-Request": "true"}
    )
    assert answer.status_code == 200
    assert answer.headers["hx-redirect"] == "/datasets"
    now = in_request(lambda _request: toasts.toast_now(Response(), MESSAGE))
    assert '"target": "body"' in now.headers["hx-trigger"]
    assert now.headers["hx-trigger"].isascii()


def test_a_toast_needs_the_servers_key() -> None:
    app = Starlette(routes=[Route("/", lambda request: toasts.toast_redirect(request, "/", MESSAGE))])
    with pytest.raises(ConfigurationError, match="signing_key"):
        TestClient(app).get("/")


def test_errors_stay_until_closed_and_undo_waits_longer() -> None:
    assert toasts.Toast(title="x", category="error").duration_ms == -1
    assert MESSAGE.duration_ms > toasts.Toast(title="x").duration_ms
