"""Sign-in, workspaces, members, invitations and tokens over real HTTP."""

from brightrun.accounts.roles import Role
from live import Live, Member


def data(response):
    assert response.is_success, response.text
    body = response.json()
    assert body["success"] is True
    return body["data"]


def test_a_token_acts_as_its_member_in_its_workspace(owner: Member):
    me = data(owner.client.get("/api/me"))
    assert me["user"]["email"] == owner.email
    assert me["workspace"]["id"] == str(owner.workspace_id)
    assert me["workspace"]["role"] == "owner"


def test_a_missing_bad_or_revoked_token_answers_401_in_the_one_error_shape(live: Live, owner: Member):
    for client in (live.client(), live.client("br_nothing"), live.client("x" * 5000)):
        response = client.get("/api/me")
        assert response.status_code == 401
        assert set(response.json()) == {"error", "code"}
        assert response.headers["www-authenticate"].startswith("Bearer")
    made = data(owner.client.post("/api/tokens", json={"name": "x", "scopes": ["*"]}))
    other = live.client(made["token"])
    assert other.get("/api/me").status_code == 200
    data(owner.client.delete(f"/api/tokens/{made['id']}"))
    assert other.get("/api/me").status_code == 401


def test_a_scoped_token_may_do_only_what_its_scopes_say(live: Live, owner: Member):
    made = data(owner.client.post("/api/tokens", json={"name": "x", "scopes": ["workspace:read", "tokens:manage"]}))
    narrow = live.client(made["token"])
    assert narrow.get("/api/me").status_code == 200
    refused = narrow.patch(f"/api/workspaces/{owner.workspace_id}", json={"name": "new"})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope")
    wider = narrow.post("/api/tokens", json={"name": "y", "scopes": ["*"]})
    assert wider.status_code == 403
    assert narrow.post("/api/tokens", json={"name": "y", "scopes": ["workspace:read"]}).status_code == 201


def test_a_token_for_a_second_workspace_sees_nothing_of_the_first(live: Live, owner: Member):
    second = data(owner.client.post("/api/workspaces", json={"name": "Second"}))["workspace"]
    made = data(owner.client.post("/api/tokens", json={"name": "x", "workspace_id": second["id"], "scopes": ["*"]}))
    other = live.client(made["token"])
    assert data(other.get("/api/me"))["workspace"]["id"] == second["id"]
    assert other.get(f"/api/workspaces/{owner.workspace_id}").status_code == 404
    assert data(other.get("/api/workspaces"))["total"] == 1


def test_body_faults_name_their_fields(owner: Member):
    response = owner.client.post("/api/workspaces", json={"name": "  "})
    assert response.status_code == 400
    assert response.json()["code"] == "validation_error"
    assert list(response.json()["details"]) == ["name"]
    response = owner.client.post("/api/workspaces", content=b"{", headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert list(response.json()["details"]) == ["body"]


def test_an_invitation_by_link_works_once(live: Live, owner: Member):
    path = f"/api/workspaces/{owner.workspace_id}/invitations"
    made = data(owner.client.post(path, json={"email": "new@example.com", "role": "reviewer"}))
    token = made["link"].rsplit("/", 1)[1]
    join = {"token": token, "name": "New", "password": "a long password"}
    stranger = live.client()
    assert data(stranger.post("/api/invitations/accept", json=join))["user"]["email"] == "new@example.com"
    assert stranger.post("/api/invitations/accept", json=join).status_code == 401
    members = data(owner.client.get(f"/api/workspaces/{owner.workspace_id}/members"))["items"]
    assert {member["role"] for member in members} == {"owner", "reviewer"}
    signed_in = live.client()
    data(signed_in.post("/api/auth/signin", json={"email": "new@example.com", "password": "a long password"}))
    assert data(signed_in.get("/api/me"))["workspace"]["role"] == "reviewer"


def test_a_session_needs_its_csrf_token_to_write(live: Live, owner: Member):
    path = f"/api/workspaces/{owner.workspace_id}/invitations"
    made = data(owner.client.post(path, json={"email": "csrf@example.com", "role": "admin"}))
    stranger = live.client()
    body = {"token": made["link"].rsplit("/", 1)[1], "name": "C", "password": "a long password"}
    stranger.post("/api/invitations/accept", json=body)
    stranger.post("/api/auth/signin", json={"email": "csrf@example.com", "password": "a long password"})
    assert stranger.post("/api/workspaces", json={"name": "x"}).json()["code"] == "csrf"
    token = stranger.get("/api/me").headers["x-csrf-token"]
    assert stranger.post("/api/workspaces", json={"name": "x"}, headers={"X-CSRF-Token": token}).status_code == 201
    foreign = {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"}
    assert stranger.post("/api/workspaces", json={"name": "x"}, headers=foreign).json()["code"] == "cross_site"


def test_an_admin_cannot_make_owners_and_the_last_owner_stays(live: Live, owner: Member):
    admin = live.new_member(owner.workspace_id, Role.ADMIN)
    viewer = live.new_member(owner.workspace_id, Role.VIEWER)
    members = f"/api/workspaces/{owner.workspace_id}/members"
    assert admin.client.patch(f"{members}/{viewer.user_id}", json={"role": "owner"}).status_code == 403
    assert admin.client.delete(f"{members}/{owner.user_id}").status_code == 403
    assert admin.client.patch(f"{members}/{viewer.user_id}", json={"role": "trainer"}).status_code == 200
    assert owner.client.patch(f"{members}/{owner.user_id}", json={"role": "viewer"}).json()["code"] == "last_owner"
    assert owner.client.delete(f"{members}/{owner.user_id}").json()["code"] == "last_owner"
    assert viewer.client.delete(f"{members}/{viewer.user_id}").status_code == 200
    assert viewer.client.get("/api/me").status_code == 401


def test_wrong_passwords_and_unknown_accounts_answer_alike(live: Live):
    client = live.client()
    answers = [
        client.post("/api/auth/signin", json={"email": email, "password": "wrong password"})
        for email in ("nobody@example.com", "owner@localhost")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


def test_every_answer_carries_the_security_headers(live: Live):
    for path in ("/api/me", "/healthz", "/nothing", "/signin"):
        headers = live.client().get(path).headers
        assert "'unsafe" not in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]


def test_the_openapi_document_is_served(live: Live):
    document = live.client().get("/api/openapi.json").json()
    assert "/api/me" in document["paths"]
