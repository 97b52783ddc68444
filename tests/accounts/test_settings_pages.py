"""The settings, as a browser without JavaScript uses them: forms in, redirects or the form with its faults out."""

import re
from collections.abc import Iterator

import httpx2
import pytest

from brightrun.accounts.roles import Permission, Role
from brightrun.accounts.settings_pages import browser_words
from brightrun.accounts.settings_team_pages import PERMISSION_WORDS, ROLE_WORDS
from live import Live, Member
from page_client import PageClient


@pytest.fixture
def browser(live: Live, owner: Member) -> Iterator[PageClient]:
    with PageClient(live, owner) as made:
        yield made


def as_member(live: Live, owner: Member, role: Role) -> PageClient:
    return PageClient(live, live.new_member(owner.workspace_id, role))


def test_every_role_and_permission_is_explained():
    assert ROLE_WORDS.keys() == set(Role)
    assert PERMISSION_WORDS.keys() == set(Permission)


def test_a_profile_keeps_its_name_and_theme(live: Live, owner: Member, browser: PageClient):
    saved = browser.submit("/settings", "/settings/profile", name="  Ada  ", theme="dark")
    assert (saved.status_code, saved.headers["location"]) == (303, "/settings")
    page = browser.get("/settings")
    assert 'value="Ada"' in page
    assert 'data-theme="dark"' in page
    assert "Profile saved" in page
    with PageClient(live, owner) as elsewhere:
        assert 'data-theme="dark"' in elsewhere.get("/settings"), "another browser of the same person"


def test_a_profile_without_a_name_is_refused_beside_its_field(browser: PageClient):
    refused = browser.submit("/settings", "/settings/profile", name="  ", theme="dark")
    assert refused.status_code == 400
    assert 'id="name-error"' in refused.text
    assert "Please fill this in" in refused.text


def test_a_password_is_set_and_then_changed_only_with_the_old_one(live: Live, owner: Member, browser: PageClient):
    weak = browser.submit("/settings/security", "/settings/password", new_password="short")
    assert weak.status_code == 400
    assert 'id="new_password-error"' in weak.text
    first = browser.submit("/settings/security", "/settings/password", new_password="a long first password")
    assert first.status_code == 303
    wrong = browser.submit(
        "/settings/security", "/settings/password", current_password="not it", new_password="a long second password"
    )
    assert wrong.status_code == 400
    assert 'id="current_password-error"' in wrong.text
    right = browser.submit(
        "/settings/security",
        "/settings/password",
        current_password="a long first password",
        new_password="a long second password",
    )
    assert right.status_code == 303
    body = {"email": owner.email, "password": "a long second password"}
    assert httpx2.post(f"{live.url}/api/auth/signin", json=body).status_code == 200


def test_another_browser_can_be_signed_out(live: Live, owner: Member, browser: PageClient):
    other = PageClient(live, owner)
    page = browser.get("/settings/security")
    [action] = re.findall(r"/settings/sessions/[0-9a-f-]+/end", page)  # this browser's own has no button
    assert browser.submit("/settings/security", action).status_code == 303
    assert other.client.get("/settings").status_code == 303, "signed out"
    assert browser.client.get("/settings").status_code == 200
    assert browser.submit("/settings/security", action).status_code == 404, "it has ended"


def test_a_browser_is_named_in_words():
    chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"
    assert browser_words(chrome) == "Chrome on Linux"
    assert browser_words("curl/8.5") == "curl/8.5"
    assert browser_words("") == "Unknown browser"


def test_workspaces_are_renamed_made_and_switched(owner: Member, browser: PageClient):
    assert browser.submit("/settings/workspace", "/settings/workspace", name="Kiln & Co").status_code == 303
    assert "Kiln &amp; Co" in browser.get("/settings/workspace")
    made = browser.submit("/settings/workspace", "/workspaces", new_name="Second")
    assert (made.status_code, made.headers["location"]) == (303, "/")
    assert browser.client.get("/api/me").json()["data"]["workspace"]["name"] == "Second"
    back = browser.submit("/settings/workspace", f"/workspaces/{owner.workspace_id}/switch")
    assert back.status_code == 303
    assert browser.client.get("/api/me").json()["data"]["workspace"]["name"] == "Kiln & Co"


def test_a_foreign_workspace_cannot_be_switched_to(live: Live, browser: PageClient):
    stranger = live.new_workspace()
    answer = browser.submit("/settings/workspace", f"/workspaces/{stranger.workspace_id}/switch")
    assert answer.status_code == 404


def test_an_invitation_link_is_shown_once_and_works(live: Live, browser: PageClient):
    made = browser.submit("/settings/members", "/settings/invitations", email="new@example.com", role="trainer")
    assert made.status_code == 200
    [link] = re.findall(r'data-copy="([^"]+/invitations/[^"]+)"', made.text)
    again = browser.get("/settings/members")
    assert link not in again
    assert "new@example.com" in again
    assert httpx2.get(link).status_code == 200


def test_an_invitation_can_be_revoked(browser: PageClient):
    made = browser.submit("/settings/members", "/settings/invitations", email="gone@example.com", role="viewer")
    [link] = re.findall(r'data-copy="([^"]+/invitations/[^"]+)"', made.text)
    [action] = re.findall(r"/settings/invitations/[0-9a-f-]+/revoke", made.text)
    assert browser.submit("/settings/members", action).status_code == 303
    assert "Revoked" in browser.get("/settings/members")
    assert httpx2.get(link).status_code == 401


def test_an_invitation_to_no_address_is_refused_beside_its_field(browser: PageClient):
    refused = browser.submit("/settings/members", "/settings/invitations", email="nobody", role="viewer")
    assert refused.status_code == 400
    assert 'id="email-error"' in refused.text
    assert 'value="nobody"' in refused.text


def test_a_member_gets_another_role_and_is_removed(live: Live, owner: Member, browser: PageClient):
    member = live.new_member(owner.workspace_id, Role.VIEWER)
    assert browser.submit(
        "/settings/members", f"/settings/members/{member.user_id}/role", role="trainer"
    ).status_code == 303  # fmt: skip
    assert member.client.get("/api/me").json()["data"]["workspace"]["role"] == "trainer"
    assert browser.submit("/settings/members", f"/settings/members/{member.user_id}/remove").status_code == 303
    assert member.client.get("/api/me").status_code == 401


def test_the_last_owner_cannot_leave(owner: Member, browser: PageClient):
    answer = browser.submit("/settings/workspace", f"/settings/members/{owner.user_id}/remove")
    assert answer.status_code == 303
    assert "A workspace needs an owner" in browser.get("/settings/members")


@pytest.mark.parametrize("role", [Role.TRAINER, Role.REVIEWER, Role.VIEWER])
def test_who_does_not_manage_sees_members_and_changes_none(live: Live, owner: Member, role: Role):
    someone = as_member(live, owner, role)
    page = someone.get("/settings/members")
    assert owner.email in page
    assert "Invite someone" not in page
    assert f"/settings/members/{owner.user_id}/role" not in page
    refused = someone.submit("/settings", "/settings/invitations", email="a@example.com", role="viewer")
    assert refused.status_code == 403
    refused = someone.submit("/settings", f"/settings/members/{owner.user_id}/role", role="viewer")
    assert refused.status_code == 403


def test_an_admin_is_not_offered_the_owners_role(live: Live, owner: Member):
    admin = as_member(live, owner, Role.ADMIN)
    page = admin.get("/settings/members")
    assert "Invite someone" in page
    assert '<option value="owner"' not in page


def test_a_token_is_shown_once_with_just_its_scopes(live: Live, browser: PageClient):
    made = browser.submit(
        "/settings/tokens",
        "/settings/tokens",
        name="nightly",
        reach="some",
        scopes=["datasets:read", "workspace:read"],
        expires_in_days="30",
    )
    assert made.status_code == 200
    [token] = re.findall(r'data-copy="(br_[^"]+)"', made.text)
    assert token not in browser.get("/settings/tokens")
    with live.client(token) as script:
        assert script.get("/api/datasets").status_code == 200
        assert script.get("/api/jobs").status_code == 403


def test_a_token_needs_a_name_and_a_scope(browser: PageClient):
    refused = browser.submit("/settings/tokens", "/settings/tokens", name="", reach="some", expires_in_days="30")
    assert refused.status_code == 400
    assert "Please fill this in" in refused.text
    assert "Choose at least one" in refused.text


def test_a_revoked_token_is_refused_at_once(live: Live, browser: PageClient):
    made = browser.submit("/settings/tokens", "/settings/tokens", name="old", reach="all", expires_in_days="")
    [token] = re.findall(r'data-copy="(br_[^"]+)"', made.text)
    block = made.text[made.text.index(">old<") :]
    found = re.search(r"/settings/tokens/[0-9a-f-]+/revoke", block)
    assert found
    assert browser.submit("/settings/tokens", found[0]).status_code == 303
    with live.client(token) as script:
        assert script.get("/api/me").status_code == 401


def test_a_viewer_has_tokens_that_are_no_wider_than_the_role(live: Live, owner: Member):
    viewer = as_member(live, owner, Role.VIEWER)
    made = viewer.submit("/settings/tokens", "/settings/tokens", name="x", reach="all", expires_in_days="30")
    [token] = re.findall(r'data-copy="(br_[^"]+)"', made.text)
    with live.client(token) as script:
        assert script.get("/api/datasets").status_code == 200
        assert script.post("/api/datasets", json={}).json()["code"] == "role"
