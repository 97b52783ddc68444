"""Sign-in, roles and tokens under attack: guessing, racing, and rights that must not grow."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from uuid import UUID

import httpx2
import psycopg
import pytest

from brightrun.accounts.roles import Role
from brightrun.db.roles import libpq
from brightrun.ids import uuid7
from installation import TEST_SECRET, make_settings
from live import Live, Member, live_server

PASSWORD = "a long password"
ATTEMPTS = 3


@pytest.fixture(scope="module")
def strict(pg_urls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that counts attempts as strictly as a real one; each test sends from accounts of its own."""
    settings = make_settings(data=tmp_path_factory.mktemp("strict"), login_attempts=ATTEMPTS, min_free_disk_bytes=0)
    with live_server(pg_urls, settings, TEST_SECRET, worker=False) as running:
        yield running


@pytest.fixture(autouse=True)
def nobody_has_tried(pg_urls) -> None:
    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:
        connection.execute("delete from rate_limits")


def account(live: Live, owner: Member, role: str = "viewer") -> str:
    """The e-mail of a new account with PASSWORD, made by invitation."""
    email = f"{uuid7().hex}@example.com"
    token = invite(owner, email, role)
    body = {"token": token, "name": "N", "password": PASSWORD}
    assert live.client().post("/api/invitations/accept", json=body).status_code == 201
    return email


def invite(owner: Member, email: str, role: str) -> str:
    made = owner.client.post(
        f"/api/workspaces/{owner.workspace_id}/invitations", json={"email": email, "role": role}
    ).json()
    return str(made["data"]["link"].rsplit("/", 1)[1])


def sign_in(live: Live, email: str, password: str = PASSWORD, **headers: str) -> httpx2.Response:
    return live.client().post("/api/auth/signin", json={"email": email, "password": password}, headers=headers)


def test_guessing_a_password_ends_and_a_forwarded_address_does_not_help(strict: Live):
    email = account(strict, strict.new_workspace())
    for number in range(ATTEMPTS):
        assert sign_in(strict, email, "wrong password", **{"X-Forwarded-For": f"10.0.0.{number}"}).status_code == 401
    refused = sign_in(strict, email, PASSWORD, **{"X-Forwarded-For": "10.9.9.9"})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 0 < int(refused.headers["retry-after"]) <= 901


def test_only_failures_count(strict: Live):
    email = account(strict, strict.new_workspace())
    for _ in range(ATTEMPTS * 2):
        assert sign_in(strict, email).status_code == 200


def test_a_flood_of_invented_accounts_adds_no_rows_beyond_the_address_limit(strict: Live, pg_urls):
    answers = [sign_in(strict, f"{number}@example.com").status_code for number in range(ATTEMPTS * 10 + 5)]
    assert answers == [401] * (ATTEMPTS * 10) + [429] * 5
    with psycopg.connect(libpq(pg_urls.owner)) as connection:
        row = connection.execute("select count(*) from rate_limits where key like 'signin-account:%'").fetchone()
    assert row == (ATTEMPTS * 10,)


def test_an_invitation_to_an_existing_account_is_no_way_to_guess_its_password(strict: Live):
    owner = strict.new_workspace()
    email = account(strict, owner)
    token = invite(owner, email, "admin")
    body = {"token": token, "name": "", "password": "wrong password"}
    answers = [strict.client().post("/api/invitations/accept", json=body).status_code for _ in range(ATTEMPTS + 1)]
    assert answers == [401] * ATTEMPTS + [429]


def test_making_tokens_is_limited(strict: Live):
    owner = strict.new_workspace()
    made = [owner.client.post("/api/tokens", json={"name": "t"}).status_code for _ in range(ATTEMPTS * 10 + 1)]
    assert made == [201] * (ATTEMPTS * 10) + [429]


def test_signing_in_answers_the_token_that_writes_need(live: Live):
    email = account(live, live.new_workspace())
    client = live.client()
    answer = client.post("/api/auth/signin", json={"email": email, "password": PASSWORD})
    assert answer.headers["x-csrf-token"] == client.get("/api/me").headers["x-csrf-token"]


def test_each_sign_in_is_a_new_session_whatever_the_browser_brought(live: Live):
    email = account(live, live.new_workspace())
    planted = live.client(cookies={"brightrun_session": "planted by somebody who waits"})
    answer = planted.post("/api/auth/signin", json={"email": email, "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert "planted" not in cookie
    for attribute in ("HttpOnly", "SameSite=lax", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie


# --- rights that must not grow --------------------------------------------------------------------------------------


def narrow(live: Live, owner: Member, *scopes: str, **more: object) -> httpx2.Client:
    made = owner.client.post("/api/tokens", json={"name": "n", "scopes": list(scopes), **more}).json()["data"]
    return live.client(made["token"])


def test_a_token_that_may_only_read_removes_nobody_not_even_its_member(live: Live, owner: Member):
    other = live.new_member(owner.workspace_id, Role.VIEWER)
    reading = narrow(live, owner, "workspace:read")
    members = f"/api/workspaces/{owner.workspace_id}/members"
    for user_id in (other.user_id, owner.user_id):
        refused = reading.delete(f"{members}/{user_id}")
        assert (refused.status_code, refused.json()["code"]) == (403, "scope")
    assert other.client.get("/api/me").status_code == 200


def test_a_narrow_token_makes_none_that_outlives_it(live: Live, owner: Member):
    short = narrow(live, owner, "tokens:manage", "workspace:read", expires_in_days=1)
    for days in (30, None):
        made = short.post("/api/tokens", json={"name": "n", "scopes": ["workspace:read"], "expires_in_days": days})
        ends = datetime.fromisoformat(made.json()["data"]["api_token"]["expires_at"])
        created = datetime.fromisoformat(made.json()["data"]["api_token"]["created_at"])
        assert (ends - created).total_seconds() <= 86_400


def test_forms_of_pages_take_no_api_token(live: Live, owner: Member):
    reading = narrow(live, owner, "workspace:read", "tokens:manage")
    for path, fields in {
        "/settings/password": {"new_password": "another long password"},
        "/settings/tokens": {"name": "wide", "reach": "all", "expires_in_days": ""},
    }.items():
        assert reading.post(path, data=fields).status_code == 403, path
    assert owner.client.get("/api/tokens").json()["data"]["total"] == 2, "the test's own two"


def test_setting_a_password_ends_other_browsers_and_waiting_links_but_no_program(live: Live, owner: Member):
    email = account(live, owner, "trainer")
    first, second = live.client(), live.client()
    for client in (first, second):
        client.post("/api/auth/signin", json={"email": email, "password": PASSWORD})
    csrf = {"X-CSRF-Token": first.get("/api/me").headers["x-csrf-token"]}
    token = first.post("/api/tokens", json={"name": "nightly"}, headers=csrf).json()["data"]["token"]
    waiting = live.signin_link(UUID(first.get("/api/me").json()["data"]["user"]["id"]))
    body = {"current_password": PASSWORD, "new_password": "another long password"}
    assert first.post("/api/me/password", json=body, headers=csrf).status_code == 200
    assert first.get("/api/me").status_code == 200
    assert second.get("/api/me").status_code == 401
    assert live.client(token).get("/api/me").status_code == 200
    page = second.get(waiting)
    csrf_field = page.text.split('name="csrf_token" value="')[1][:64]
    assert second.post(waiting, data={"csrf_token": csrf_field}).status_code == 401


def test_a_token_of_an_earlier_membership_stays_dead_after_the_next(live: Live, owner: Member):
    email = account(live, owner, "trainer")
    member = live.client()
    member.post("/api/auth/signin", json={"email": email, "password": PASSWORD})
    me = member.get("/api/me")
    csrf = {"X-CSRF-Token": me.headers["x-csrf-token"]}
    token = member.post("/api/tokens", json={"name": "n"}, headers=csrf).json()["data"]["token"]
    members = f"/api/workspaces/{owner.workspace_id}/members"
    assert owner.client.delete(f"{members}/{me.json()['data']['user']['id']}").status_code == 200
    assert live.client(token).get("/api/me").status_code == 401
    body = {"token": invite(owner, email, "viewer"), "password": PASSWORD}
    assert live.client().post("/api/invitations/accept", json=body).status_code == 201
    assert live.client(token).get("/api/me").status_code == 401


# --- races ----------------------------------------------------------------------------------------------------------


def together(*requests: Callable[[], httpx2.Response]) -> list[httpx2.Response]:
    """Send all at the same moment."""
    gate = threading.Barrier(len(requests))

    def send(request: Callable[[], httpx2.Response]) -> httpx2.Response:
        gate.wait()
        return request()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, requests))


def test_two_owners_who_remove_each_other_leave_one(live: Live):
    def once() -> None:
        first = live.new_workspace()
        second = live.new_member(first.workspace_id, Role.OWNER)
        members = f"/api/workspaces/{first.workspace_id}/members"
        together(
            lambda: first.client.delete(f"{members}/{second.user_id}"),
            lambda: second.client.delete(f"{members}/{first.user_id}"),
        )
        left = [member for member in (first, second) if member.client.get("/api/me").status_code == 200]
        assert len(left) == 1
        assert left[0].client.get("/api/me").json()["data"]["workspace"]["role"] == "owner"

    for _ in range(5):
        once()


def test_nobody_acts_with_a_role_that_was_just_taken_from_them(live: Live):
    def once() -> None:
        owner = live.new_workspace()
        admin = live.new_member(owner.workspace_id, Role.ADMIN)
        path = f"/api/workspaces/{owner.workspace_id}/members/{admin.user_id}"
        together(
            lambda: owner.client.patch(path, json={"role": "viewer"}),
            lambda: admin.client.patch(path, json={"role": "trainer"}),
        )
        assert admin.client.get("/api/me").json()["data"]["workspace"]["role"] == "viewer"

    for _ in range(5):
        once()


def test_one_invitation_lets_one_person_in_however_many_hold_the_link(live: Live, owner: Member):
    token = invite(owner, f"{uuid7().hex}@example.com", "viewer")
    body = {"token": token, "name": "N", "password": PASSWORD}
    clients = [live.client() for _ in range(6)]
    answers = together(*(lambda client=client: client.post("/api/invitations/accept", json=body) for client in clients))
    assert sorted(answer.status_code for answer in answers)[0] == 201
    assert sum(answer.status_code == 201 for answer in answers) == 1
    assert {answer.status_code for answer in answers} <= {201, 401, 409}
    members = owner.client.get(f"/api/workspaces/{owner.workspace_id}/members").json()["data"]
    assert members["total"] == 2


def test_two_invitations_of_one_person_accepted_at_once_both_hold(live: Live, owner: Member):
    email = account(live, live.new_workspace())
    tokens = [invite(owner, email, role) for role in ("viewer", "trainer")]
    clients = [live.client() for _ in tokens]
    answers = together(
        *(
            lambda client=client, token=token: client.post(
                "/api/invitations/accept", json={"token": token, "password": PASSWORD}
            )
            for client, token in zip(clients, tokens, strict=True)
        )
    )
    assert [answer.status_code for answer in answers] == [201, 201]
    roles = owner.client.get(f"/api/workspaces/{owner.workspace_id}/members").json()["data"]["items"]
    assert sorted(member["role"] for member in roles) == ["owner", "trainer"], "the higher of the two"


# --- what has ended is deleted --------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_sweep_deletes_what_ended_a_month_ago_and_nothing_else(live: Live, owner: Member, worker_db, pg_urls):
    from brightrun.accounts.tasks import sweep

    class Worker:
        db, settings = worker_db, live.settings

    def fill(connection, table: str, columns: str, values: str) -> None:
        for number, ended in enumerate(("now() - interval '31 days'", "now() - interval '29 days'")):
            connection.execute(
                f"insert into {table} (id, token_hash, expires_at, {columns})"
                f" values (%s, %s, {ended}, {values.format(user=owner.user_id, workspace=owner.workspace_id)})",
                [uuid7(), f"{table} {number} {owner.user_id}".encode()],
            )

    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:
        fill(connection, "auth_sessions", "user_id", "'{user}'")
        fill(connection, "signin_links", "user_id, purpose", "'{user}', 'sign_in'")
        fill(
            connection,
            "api_tokens",
            "user_id, workspace_id, name, hint, scopes",
            "'{user}', '{workspace}', 'n', 'abcd', '{{*}}'",
        )
        fill(connection, "invitations", "workspace_id, email, role", "'{workspace}', 'a@example.com', 'viewer'")
        connection.execute("insert into rate_limits values ('old', now() - interval '25 hours', 1), ('new', now(), 1)")
        await sweep(Worker)  # type: ignore[arg-type]
        for table, column, left in (
            ("auth_sessions", "user_id", 1),
            ("signin_links", "user_id", 1),
            ("api_tokens", "user_id", 2),  # and the one the test acts with
            ("invitations", "workspace_id", 1),
        ):
            identity = owner.user_id if column == "user_id" else owner.workspace_id
            row = connection.execute(f"select count(*) from {table} where {column} = %s", [identity]).fetchone()
            assert row == (left,), table
        assert connection.execute("select key from rate_limits where key in ('old', 'new')").fetchall() == [("new",)]
