"""What every route keeps to, whoever asks and whatever they send: the envelope, the status, and a server that lives."""

import contextlib
import socket
from urllib.parse import urlsplit

import httpx2
import pytest

from brightrun.web.body_limit import MAX_BODY_BYTES
from live import Live, Member

JSON = {"content-type": "application/json"}


def refusal(answer: httpx2.Response, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"], "also refusals carry the request's id and the security headers"
    assert "content-security-policy" in answer.headers
    body = answer.json()
    assert set(body) <= {"error", "code", "details"}
    assert body["code"] == code
    assert isinstance(body["error"], str)
    return body


def test_an_address_that_is_not_there_answers_404_and_a_wrong_method_405(live: Live):
    for path in ("/api", "/api/", "/api/nothing", "/api/datasets/x/y/z"):
        refusal(live.client().get(path), 404, "not_found")
    answer = live.client().delete("/api/me")
    assert "GET" in str(refusal(answer, 405, "method_not_allowed")["error"])
    assert answer.headers["allow"] == "GET"
    several = live.client().put("/api/datasets")
    assert "GET, POST" in str(refusal(several, 405, "method_not_allowed")["error"])
    assert several.headers["allow"] == "GET, POST"


def test_signing_in_comes_before_permission_and_permission_before_the_thing(live: Live, owner: Member):
    viewer_token = owner.client.post("/api/tokens", json={"name": "n", "scopes": ["datasets:read"]}).json()["data"]
    narrow = live.client(viewer_token["token"])
    for path in (f"/api/workspaces/{owner.workspace_id}", "/api/workspaces/not-an-id"):
        refusal(live.client().patch(path, json={"name": 5}), 401, "unauthenticated")
        refusal(narrow.patch(path, json={"name": 5}), 403, "scope")
    refusal(owner.client.patch("/api/workspaces/not-an-id", json={"name": "x"}), 404, "not_found")
    body = refusal(
        owner.client.patch(f"/api/workspaces/{owner.workspace_id}", json={"name": 5}), 400, "validation_error"
    )
    assert list(body["details"]) == ["name"]  # type: ignore[call-overload]


@pytest.mark.parametrize("body", [b'{"name": "\xff\xfe"}', b"[" * 200_000, b'{"name": NaN}', b'"text"', b"", b"null"])
def test_a_body_that_is_no_object_is_400_and_says_where(owner: Member, body: bytes):
    details = refusal(owner.client.post("/api/workspaces", content=body, headers=JSON), 400, "validation_error")[
        "details"
    ]
    assert details, "names the field"


def test_a_nul_character_is_the_senders_fault(live: Live, owner: Member):
    signin = {"email": "a\0@example.com", "password": "x"}
    for answer in (
        owner.client.post("/api/workspaces", json={"name": "a\0b"}),
        owner.client.get("/api/datasets", params={"search": "\0"}),
        live.client().post("/api/auth/signin", json=signin),
    ):
        refusal(answer, 400, str(answer.json()["code"]))


def test_bodies_beyond_the_limit_are_refused_announced_or_not(live: Live, owner: Member):
    text = b'{"name": "' + b"a" * MAX_BODY_BYTES + b'"}'
    refusal(owner.client.post("/api/workspaces", content=text, headers=JSON), 413, "too_large")
    streamed = owner.client.post("/api/workspaces", content=iter([text[:1000], text[1000:]]), headers=JSON)
    refusal(streamed, 413, "too_large")
    page = live.client().post("/signin", files={"file": b"a" * (2 * MAX_BODY_BYTES)}, data={"email": "a"})
    assert page.status_code == 413
    assert page.headers["content-type"].startswith("text/html")
    refusal(live.client().post("/api/workspaces", content=text, headers=JSON), 413, "too_large")


def test_letters_beyond_ascii_where_a_secret_belongs_are_a_wrong_secret(live: Live):
    odd = "é".encode("latin-1")
    answer = httpx2.post(f"{live.url}/signin", headers={"X-CSRF-Token": odd}, data={"email": "a", "password": "b"})
    assert answer.status_code == 403
    assert httpx2.get(f"{live.url}/api/me", headers={"Authorization": b"Bearer " + odd}).status_code == 401
    assert httpx2.get(f"{live.url}/api/me", headers={"Cookie": b"brightrun_session=" + odd}).status_code == 401


def test_a_page_that_needs_signing_in_does_not_lead_back_to_where_a_form_went(live: Live):
    answer = live.client().post("/signout", data={})
    assert (answer.status_code, answer.headers["location"]) == (303, "/signin")


def test_every_line_of_the_log_masks_one_time_links_and_tokens():
    from brightrun.logs import mask

    secret = "s" * 43
    for path in ("signin-link", "reset-password", "invitations"):
        assert secret not in mask(f"GET /{path}/{secret}")
    assert secret not in mask(f"Bearer br_{secret}")
    assert secret not in mask(f"https://host/storage/object/x?signature={secret}")


def test_invented_methods_do_not_grow_the_metrics(live: Live):
    where = urlsplit(live.url)
    for number in range(3):
        with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
            connection.sendall(f"INVENTED{number} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            connection.recv(1000)
    live.client().request("PROPFIND", "/")
    text = live.client().get("/metrics").text
    assert "INVENTED" not in text
    assert "PROPFIND" not in text


def test_endless_headers_end_the_connection(live: Live):
    where = urlsplit(live.url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(b"GET /api/me HTTP/1.1\r\nHost: x\r\nX-Endless: ")
        answer = b""
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                connection.sendall(b"a" * 10_000)
            raise AssertionError("ten megabytes of one header were taken")
        with contextlib.suppress(ConnectionError):
            answer = connection.recv(1000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
    long_but_sound = live.client().get("/healthz", headers={"X-Long": "a" * 30_000})
    assert long_but_sound.status_code == 200
