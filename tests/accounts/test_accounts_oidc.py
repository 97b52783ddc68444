"""OpenID Connect against a provider that speaks the real protocol over a socket, and lies in every way."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from installation import TEST_SECRET, make_settings
from live import Live, live_server


class Provider(ThreadingHTTPServer):
    """Signs ID tokens; `claims` and `key` are what a test changes to lie."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})
        self.published = self.key
        self.claims: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}

    def authorize(self, url: str) -> dict[str, str]:
        """What the person's browser does at the provider: sign in there, come back with a code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"]}


class Handler(BaseHTTPRequestHandler):
    server: Provider

    def log_message(self, *_arguments: object) -> None:
        pass

    def answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path.endswith("openid-configuration"):
            url = self.server.url
            self.answer(
                {
                    "issuer": url,
                    "authorization_endpoint": f"{url}/authorize",
                    "token_endpoint": f"{url}/token",
                    "jwks_uri": f"{url}/keys",
                }
            )
        else:
            self.answer({"keys": [self.server.published.as_dict(private=False)]})

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        asked = self.server.codes.pop(body["code"][0], None)
        if asked is None:
            self.answer({"error": "invalid_grant"}, 400)
            return
        digest = hashlib.sha256(body["code_verifier"][0].encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            self.answer({"error": "invalid_grant", "error_description": "PKCE"}, 400)
            return
        now = int(time.time())
        claims = {
            "iss": self.server.url,
            "aud": asked["client_id"],
            "sub": "person-1",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "email": "sso@example.com",
            "email_verified": True,
            "name": "Sam",
            **self.server.claims,
        }
        token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, self.server.key)
        self.answer({"access_token": "a", "token_type": "Bearer", "id_token": token})


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def live_oidc(pg_urls, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = make_settings(
        data=tmp_path_factory.mktemp("oidc"),
        oidc_issuer=provider.url,
        oidc_client_id="brightrun",
        oidc_client_secret="secret",
        oidc_create_users=True,
        min_free_disk_bytes=0,
    )
    with live_server(pg_urls, settings, TEST_SECRET, worker=False) as running:
        yield running


@pytest.fixture(autouse=True)
def honest(provider: Provider) -> None:
    provider.claims = {}
    provider.published = provider.key


def walk(live: Live, provider: Provider, **changes: str) -> tuple[httpx2.Client, httpx2.Response]:
    browser = live.client()
    began = browser.get("/signin/oidc", params={"next": "/datasets"})
    assert began.status_code == 303
    return browser, browser.get(
        "/signin/oidc/callback", params={**provider.authorize(began.headers["location"]), **changes}
    )


def test_a_verified_person_gets_an_account_and_later_the_same_one(live_oidc: Live, provider: Provider):
    browser, answer = walk(live_oidc, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets")
    first = browser.get("/api/me").json()["data"]["user"]
    assert first["email"] == "sso@example.com"
    provider.claims = {"email": "renamed@example.com"}
    browser, _answer = walk(live_oidc, provider)
    assert browser.get("/api/me").json()["data"]["user"]["id"] == first["id"], (
        "known by the provider's id, not the mail"
    )


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"aud": "another-application"}, "does not hold"),
        ({"iss": "https://evil.example"}, "does not hold"),
        ({"exp": 1_000_000_000}, "does not hold"),
        ({"nonce": "replayed"}, "does not hold"),
        ({"sub": "person-9", "email": "x@example.com", "email_verified": False}, "does not vouch"),
        ({"sub": "person-8", "email": "sso@example.com"}, "another identity"),
    ],
)
def test_a_token_that_does_not_hold_signs_nobody_in(live_oidc: Live, provider: Provider, lie, words):
    walk(live_oidc, provider)
    provider.claims = lie
    browser, answer = walk(live_oidc, provider)
    assert answer.status_code in {401, 403}
    assert browser.get("/api/me").status_code == 401
    assert words in answer.text


def test_an_account_found_by_its_verified_address_keeps_no_way_in_for_whoever_made_it(
    live_oidc: Live, provider: Provider
):
    """Anyone can make an account in somebody's name, and wait for them to come by single sign-on."""
    attacker = live_oidc.new_workspace()
    path = f"/api/workspaces/{attacker.workspace_id}/invitations"
    made = attacker.client.post(path, json={"email": "victim@example.com", "role": "admin"}).json()["data"]
    body = {"token": made["link"].rsplit("/", 1)[1], "name": "V", "password": "known to the attacker"}
    live_oidc.client().post("/api/invitations/accept", json=body)
    planted = live_oidc.client()
    signin = {"email": "victim@example.com", "password": "known to the attacker"}
    csrf = {"X-CSRF-Token": planted.post("/api/auth/signin", json=signin).headers["x-csrf-token"]}
    token = planted.post("/api/tokens", json={"name": "n", "expires_in_days": None}, headers=csrf).json()["data"]
    provider.claims = {"sub": "the-victim", "email": "victim@example.com"}
    browser, _answer = walk(live_oidc, provider)
    assert browser.get("/api/me").json()["data"]["user"]["email"] == "victim@example.com"
    assert planted.get("/api/me").status_code == 401
    assert live_oidc.client(token["token"]).get("/api/me").status_code == 401
    assert live_oidc.client().post("/api/auth/signin", json=signin).status_code == 401


def test_a_refusal_of_the_provider_is_shown_on_the_sign_in_page(live_oidc: Live, provider: Provider):
    _browser, answer = walk(live_oidc, provider, code="", error="access_denied")
    assert answer.status_code == 401
    assert "access_denied" in answer.text
    assert 'name="password"' in answer.text


def test_a_token_signed_by_another_key_signs_nobody_in(live_oidc: Live, provider: Provider):
    provider.published = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})
    browser, _answer = walk(live_oidc, provider)
    assert browser.get("/api/me").status_code == 401


def test_a_callback_that_this_browser_did_not_begin_is_refused(live_oidc: Live, provider: Provider):
    browser, _answer = walk(live_oidc, provider, state="forged")
    assert browser.get("/api/me").status_code == 401
    stranger = live_oidc.client()
    stranger.get("/signin/oidc/callback", params={"code": "code-0", "state": "x"})
    assert stranger.get("/api/me").status_code == 401


def test_without_settings_there_is_no_single_sign_on(live: Live):
    assert live.client().get("/signin/oidc").status_code == 404
