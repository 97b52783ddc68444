"""Who did what in a workspace, as its admins see it: on a page, by API, as CSV. Nobody else's, and never changed."""

import csv
import io
from typing import Any

import httpx2
import pytest

from brightrun.accounts.audit_pages import ACTION_WORDS
from brightrun.accounts.roles import Role
from brightrun.audit.service import record
from brightrun.db.session import Database
from live import Live, Member
from page_client import PageClient, words
from waiting import eventually


def entries(member: Member, **filters: Any) -> list[dict[str, Any]]:
    answer = member.client.get("/api/audit", params={"limit": 100, **filters})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["data"]["items"]
    return items


def actions(member: Member, **filters: Any) -> list[str]:
    return [entry["action"] for entry in entries(member, **filters)]


def test_what_is_done_to_members_is_noted_with_who_did_it_and_what_was_before(live: Live):
    owner = live.new_workspace()
    other = live.new_member(owner.workspace_id, Role.VIEWER)
    path = f"/api/workspaces/{owner.workspace_id}/members/{other.user_id}"
    assert owner.client.patch(path, json={"role": "trainer"}).status_code == 200
    assert owner.client.patch(path, json={"role": "trainer"}).status_code == 200  # changes nothing
    assert owner.client.delete(path).status_code == 200
    removed, changed = entries(owner, action="member")
    assert (removed["action"], changed["action"]) == ("member.removed", "member.role_changed")
    assert changed["details"] == {"email": other.email, "before": "viewer", "after": "trainer", "by_token": "t"}
    assert removed["details"] == {"email": other.email, "role": "trainer", "by_token": "t"}
    for entry in (removed, changed):
        assert (entry["actor"], entry["user_id"]) == (owner.email, str(owner.user_id))
        assert entry["target_id"] == str(other.user_id)


def test_one_who_left_is_still_named(live: Live):
    owner = live.new_workspace()
    other = live.new_member(owner.workspace_id, Role.TRAINER)
    other.client.delete(f"/api/workspaces/{owner.workspace_id}/members/{other.user_id}").raise_for_status()
    [left] = entries(owner, action="member.left")
    assert left["actor"] == other.email


def test_invitations_are_noted_from_their_making_to_their_end(live: Live):
    owner = live.new_workspace()
    path = f"/api/workspaces/{owner.workspace_id}/invitations"
    email = f"new-{owner.user_id}@example.com"
    made = owner.client.post(path, json={"email": email, "role": "viewer"}).json()["data"]
    body = {"token": made["link"].rpartition("/")[2], "name": "New", "password": "a good long password"}
    assert live.client().post("/api/invitations/accept", json=body).status_code == 201
    second = owner.client.post(path, json={"email": "x@example.com", "role": "viewer"}).json()["data"]
    for _again in range(2):
        owner.client.delete(f"/api/invitations/{second['invitation']['id']}").raise_for_status()
    found = entries(owner, action="invitation")
    assert [(entry["action"], entry["actor"]) for entry in found] == [
        ("invitation.revoked", owner.email),
        ("invitation.created", owner.email),
        ("invitation.accepted", email),
        ("invitation.created", owner.email),
    ]
    assert {entry["details"]["email"] for entry in found} == {email, "x@example.com"}
    assert made["link"] not in str(found)


def test_tokens_are_noted_without_what_they_are(live: Live):
    owner = live.new_workspace()
    made = owner.client.post("/api/tokens", json={"name": "ci", "scopes": ["datasets:read"]}).json()["data"]
    owner.client.delete(f"/api/tokens/{made['id']}").raise_for_status()
    revoked, created, *_first = entries(owner, action="token")
    assert (created["action"], revoked["action"]) == ("token.created", "token.revoked")
    assert created["details"]["name"] == revoked["details"]["name"] == "ci"
    assert created["details"]["scopes"] == ["datasets:read"]
    assert revoked["details"]["of"] == owner.email
    assert made["token"] not in str(entries(owner))


def test_signing_in_failing_to_and_a_changed_password_are_noted_in_each_workspace_of_the_person(live: Live):
    owner = live.new_workspace("First")
    second = owner.client.post("/api/workspaces", json={"name": "Second"}).json()["data"]["workspace"]
    body = {"name": "t", "scopes": ["*"], "workspace_id": second["id"]}
    token = owner.client.post("/api/tokens", json=body).json()["data"]["token"]
    with PageClient(live, owner) as browser:
        new = {"new_password": "a long first password"}
        assert browser.submit("/settings/security", "/settings/password", **new).status_code == 303
    wrong = live.client().post("/api/auth/signin", json={"email": owner.email, "password": "not it"})
    assert wrong.status_code == 401
    right = live.client().post("/api/auth/signin", json={"email": owner.email, "password": "a long first password"})
    assert right.status_code == 200
    for client in (owner.client, live.client(token)):

        def account(client: httpx2.Client = client) -> list[dict[str, Any]]:
            items: list[dict[str, Any]] = client.get("/api/audit?action=account").json()["data"]["items"]
            return items

        # A failure is noted beside the answer, not before it.
        eventually("all noted", lambda account=account: len(account()) == 5)
        found = {entry["action"]: entry["details"] for entry in account()}
        assert found.keys() == {
            "account.link_created", "account.signed_in", "account.password_changed", "account.sign_in_failed",
        }  # fmt: skip
        assert found["account.sign_in_failed"] == {"address": "127.0.0.1"}
        how = [entry["details"]["by"] for entry in account() if entry["action"] == "account.signed_in"]
        assert how == ["password", "one-time link"]


def test_what_happens_to_datasets_and_the_workspace_is_there_too(live: Live):
    owner = live.new_workspace("Before")
    body = {"name": "set", "file_name": "a.jsonl", "file_size": 10}
    dataset = owner.client.post("/api/datasets", json=body).json()["data"]["dataset"]
    owner.client.delete(f"/api/datasets/{dataset['id']}").raise_for_status()
    owner.client.post(f"/api/datasets/{dataset['id']}/restore").raise_for_status()
    owner.client.patch(f"/api/workspaces/{owner.workspace_id}", json={"name": "After"}).raise_for_status()
    assert actions(owner) == [
        "workspace.renamed", "dataset.restored", "dataset.deleted", "dataset.created", "token.created",
        "workspace.created",
    ]  # fmt: skip
    assert actions(owner, target_id=dataset["id"]) == ["dataset.restored", "dataset.deleted", "dataset.created"]


@pytest.mark.parametrize("role", [Role.TRAINER, Role.REVIEWER, Role.VIEWER])
def test_only_owners_and_admins_see_it(live: Live, role: Role):
    owner = live.new_workspace()
    member = live.new_member(owner.workspace_id, role)
    assert member.client.get("/api/audit").status_code == 403
    with PageClient(live, member) as browser:
        assert browser.client.get("/settings/audit").status_code == 403
        assert browser.client.get("/settings/audit.csv").status_code == 403
        assert "/settings/audit" not in browser.get("/settings")
    admin = live.new_member(owner.workspace_id, Role.ADMIN)
    assert admin.client.get("/api/audit").status_code == 200


def test_another_workspace_sees_none_of_it_not_even_after_an_entry_of_it(live: Live):
    owner, other = live.new_workspace("First"), live.new_workspace("Second")
    theirs = {entry["id"] for entry in entries(other)}
    mine = entries(owner)
    assert mine
    assert not theirs & {entry["id"] for entry in mine}
    beyond = other.client.get("/api/audit", params={"after": mine[0]["id"]})
    assert beyond.status_code == 404


def fill(live: Live, owner: Member, count: int) -> None:
    async def work(database: Database) -> None:
        async with database.transaction(user_id=owner.user_id, workspace_id=owner.workspace_id) as session:
            for number in range(count):
                await record(session, "dataset.updated", "dataset", None, {"name": f"=number {number}"})

    live.run(work)


def test_a_long_log_is_read_by_page_and_by_cursor_in_one_order(live: Live):
    owner = live.new_workspace()
    fill(live, owner, 30)  # in one transaction: all of one moment
    by_page: list[str] = []
    for page in (1, 2, 3, 4):
        answer = owner.client.get("/api/audit", params={"limit": 10, "page": page}).json()["data"]
        assert answer["total"] == 32
        by_page += [entry["id"] for entry in answer["items"]]
    by_cursor: list[str] = []
    while True:
        after = {"after": by_cursor[-1]} if by_cursor else {}
        found = owner.client.get("/api/audit", params={"limit": 10, **after}).json()["data"]["items"]
        if not found:
            break
        by_cursor += [entry["id"] for entry in found]
    assert by_page == by_cursor
    assert len(set(by_page)) == 32


def test_filters_by_who_what_and_when(live: Live):
    owner = live.new_workspace()
    fill(live, owner, 2)
    trainer = live.new_member(owner.workspace_id, Role.TRAINER)
    assert actions(owner, who=trainer.email[3:20]) == ["token.created"]
    assert actions(owner, action="dataset.updated") == ["dataset.updated"] * 2
    today = entries(owner)[0]["created_at"][:10]
    assert len(entries(owner, start_date=today, end_date=today)) == 5
    assert entries(owner, start_date="2001-01-01", end_date="2001-01-31") == []
    assert owner.client.get("/api/audit", params={"start_date": "soon"}).status_code == 400


def test_the_page_shows_filters_and_exports_what_it_shows(live: Live):
    owner = live.new_workspace()
    owner.client.patch(f"/api/workspaces/{owner.workspace_id}", json={"name": "After"}).raise_for_status()
    fill(live, owner, 30)
    with PageClient(live, owner) as browser:
        page = browser.get("/settings/audit")
        assert "1–25 of" in page
        assert "Workspace created" in words(browser.get("/settings/audit?page=2"))
        narrowed = words(browser.get("/settings/audit?action=workspace"))
        assert "Workspace created Test workspace" in narrowed
        assert "Workspace renamed Test workspace → After" in narrowed
        assert "=number" not in narrowed
        refused = browser.client.get("/settings/audit?start_date=31.1.2026")
        assert refused.status_code == 400
        assert "Dates are written like" in refused.text
        export = browser.client.get("/settings/audit.csv?action=dataset")
        assert export.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(export.text)))
        assert len(rows) == 30
        assert {row["action"] for row in rows} == {"dataset.updated"}
        assert rows[0]["actor"] == owner.email


def test_a_number_of_entries_beyond_one_batch_is_exported_whole(live: Live, monkeypatch: pytest.MonkeyPatch):
    from brightrun.accounts import audit_pages

    monkeypatch.setattr(audit_pages, "_CSV_BATCH", 7)
    owner = live.new_workspace()
    fill(live, owner, 19)
    with PageClient(live, owner) as browser:
        rows = list(csv.DictReader(io.StringIO(browser.client.get("/settings/audit.csv?action=dataset").text)))
    assert [row["details"] for row in rows] == [f'{{"name": "=number {number}"}}' for number in reversed(range(19))]


def test_every_action_of_accounts_has_words():
    import re
    from pathlib import Path

    import brightrun.accounts

    folder = Path(brightrun.accounts.__file__).parent
    found = set()
    for file in folder.glob("*.py"):
        found |= set(re.findall(r'"((?:account|member|invitation|token|workspace)\.[a-z_]+)"', file.read_text()))
    assert found <= ACTION_WORDS.keys()
