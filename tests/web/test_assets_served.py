"""How the built assets are served: cached for ever under their build's address, and only they."""

import gzip
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from brightrun.web import assets

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build


@pytest.fixture(scope="module")
def client() -> TestClient:
    hatch_build.build()
    return TestClient(Starlette(routes=[Mount(assets.STATIC_URL, assets.BuiltAssets())]))


def test_a_current_address_is_cached_for_ever(client: TestClient) -> None:
    answer = client.get(assets.asset("app.css"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/css")


def test_the_address_of_another_release_is_served_but_not_cached(client: TestClient) -> None:
    answer = client.get("/static/000000000000/js/app.js")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"


def test_gzip_is_sent_to_those_who_take_it(client: TestClient) -> None:
    plain = client.get(assets.asset("js/app.js"), headers={"accept-encoding": "identity"})
    with client.stream("GET", assets.asset("js/app.js"), headers={"accept-encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-type"] == "text/javascript; charset=utf-8"
    assert gzip.decompress(raw) == plain.content


@pytest.mark.parametrize("path", ["", "x", "x/nope.css", "x/../../views.py", "x/%2e%2e/%2e%2e/views.py", "app.css"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


def test_an_unknown_asset_or_icon_is_an_error_at_once(client: TestClient) -> None:
    with pytest.raises(LookupError, match=r"nope\.css"):
        assets.asset("nope.css")
    with pytest.raises(LookupError, match=r"icons\.txt"):
        assets.icon("no-such-icon")


def test_an_icon_is_hidden_from_screen_readers_unless_it_has_a_name(client: TestClient) -> None:
    assert 'aria-hidden="true"' in assets.icon("check")
    named = assets.icon("check", label='"done" & more')
    assert 'role="img" aria-label="&#34;done&#34; &amp; more"' in named
