"""Notifications leave the house: to webhooks and mailboxes that are real servers, once per event, and logged."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from receiver import Mailbox, Receiver, mailbox, receiver
from test_notifications import listed, tell

from brightrun.accounts.roles import Role
from brightrun.db.session import Database
from brightrun.notifications import NotificationType, deliveries
from brightrun.notifications.tables import Delivery
from brightrun.notifications.words import TYPE_WORDS
from live import Live, Member
from waiting import eventually

SOON = timedelta(milliseconds=10)


@pytest.fixture
def other_side(live: Live, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(live.settings, "allow_private_webhooks", True)
    monkeypatch.setattr(deliveries, "RETRY_AFTER", (SOON, SOON, SOON))
    with receiver() as kept:
        yield kept


@pytest.fixture
def mails(live: Live, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    monkeypatch.setattr(deliveries, "RETRY_AFTER", (SOON, SOON, SOON))
    with mailbox() as kept:
        for name, value in {"smtp_host": "127.0.0.1", "smtp_port": kept.port, "smtp_tls": "none"}.items():
            monkeypatch.setattr(live.settings, name, value)
        yield kept


def made(member: Member, url: str, types: list[str] | None = None) -> dict[str, Any]:
    answer = member.client.post("/api/webhooks", json={"url": url, "types": types or ["dataset_ready", "system"]})
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def log_of(member: Member, webhook_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = member.client.get(f"/api/webhooks/{webhook_id}/deliveries").json()["data"]["items"]
    return items


def settled(member: Member, webhook_id: str, count: int = 1) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        items = log_of(member, webhook_id)
        return items if len(items) == count and all(item["status"] != "pending" for item in items) else []

    return eventually("the deliveries are settled", found)


def prefer(member: Member, **values: object) -> None:
    answer = member.client.put("/api/notifications/preferences", json=values)
    assert answer.status_code == 200, answer.text


def test_a_webhook_is_told_once_and_can_check_who_calls(live: Live, owner: Member, other_side: Receiver) -> None:
    hook = made(owner, other_side.url + "/hook?x=1")
    for _ in range(2):
        tell(live, owner, "a", action_url="/datasets/7", metadata={"dataset_id": "7"})
    tell(live, owner, "b", type=NotificationType.JOB_FAILED)  # not asked for
    (delivery,) = settled(owner, hook["webhook"]["id"])
    assert (delivery["status"], delivery["response_status"], delivery["attempts"]) == ("sent", 200, 1)
    ((headers, body),) = other_side.calls
    said = json.loads(body)
    assert (said["type"], said["title"], said["metadata"]) == ("dataset_ready", "Dataset ready", {"dataset_id": "7"})
    assert said["url"].endswith("/datasets/7")
    assert said["url"].startswith("http")
    moment, signature = (part.split("=")[1] for part in headers["BrightRun-Signature"].split(","))
    expected = hmac.new(hook["secret"].encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    assert signature == expected
    assert headers["BrightRun-Delivery"] == delivery["id"]


def test_what_the_other_side_cannot_take_now_is_tried_again_and_what_it_refuses_is_not(
    live: Live, owner: Member, other_side: Receiver
) -> None:
    hook = made(owner, other_side.url)["webhook"]["id"]
    other_side.answers += [503, 429]
    tell(live, owner, "a")
    (delivery,) = settled(owner, hook)
    assert (delivery["status"], delivery["attempts"]) == ("sent", 3)
    assert len({headers["BrightRun-Delivery"] for headers, _body in other_side.calls}) == 1
    other_side.answers += [404]
    tell(live, owner, "b")
    newest = settled(owner, hook, 2)[0]
    assert (newest["status"], newest["attempts"], newest["response_status"]) == ("failed", 1, 404)
    assert "404: said." in newest["error"]
    other_side.answers += [500] * 4
    tell(live, owner, "c")
    newest = settled(owner, hook, 3)[0]
    assert (newest["status"], newest["attempts"]) == ("failed", 4)
    path = f"/api/webhooks/{hook}/deliveries/{newest['id']}/retry"
    assert owner.client.post(path).status_code == 202
    assert settled(owner, hook, 3)[0]["status"] == "sent"
    assert owner.client.post(path).json()["code"] == "delivery_not_failed"


def test_a_redirect_is_not_followed(live: Live, owner: Member, other_side: Receiver) -> None:
    hook = made(owner, other_side.url)["webhook"]["id"]
    other_side.answers += [302]
    tell(live, owner, "a")
    (delivery,) = settled(owner, hook)
    assert "redirects are not followed" in delivery["error"]
    assert len(other_side.calls) == 1


def test_a_webhook_that_is_gone_is_switched_off_and_the_workspace_is_told(
    live: Live, owner: Member, other_side: Receiver
) -> None:
    hook = made(owner, other_side.url)["webhook"]["id"]
    other_side.answers += [410]
    tell(live, owner, "a")
    eventually("told", lambda: "switched off" in listed(owner)["items"][0]["title"])
    row = owner.client.get(f"/api/webhooks/{hook}").json()["data"]["webhook"]
    assert not row["active"]
    assert "410" in row["inactive_reason"]
    tell(live, owner, "b")
    assert len(log_of(owner, hook)) == 1, "nothing is sent to one that is off"
    owner.client.patch(f"/api/webhooks/{hook}", json={"active": True})
    tell(live, owner, "c")
    assert settled(owner, hook, 2)[0]["status"] == "sent"


def test_a_failing_webhook_is_switched_off_after_a_while(
    live: Live, owner: Member, other_side: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "GIVE_UP_AFTER", 2)
    hook = made(owner, other_side.url, ["dataset_ready"])["webhook"]["id"]
    other_side.answers += [400, 400]
    tell(live, owner, "a")
    settled(owner, hook, 1)
    tell(live, owner, "b")
    settled(owner, hook, 2)
    row = eventually(
        "off",
        lambda: (
            (found := owner.client.get(f"/api/webhooks/{hook}").json()["data"]["webhook"])["inactive_reason"] and found
        ),
    )
    assert row["failures"] == 2


def test_the_test_button_sends_a_signed_test(live: Live, owner: Member, other_side: Receiver) -> None:
    hook = made(owner, other_side.url)["webhook"]["id"]
    other_side.answers += [500]
    assert owner.client.post(f"/api/webhooks/{hook}/test").status_code == 202
    (delivery,) = settled(owner, hook)
    assert (delivery["status"], delivery["attempts"], delivery["title"]) == ("failed", 1, None)
    assert json.loads(other_side.calls[0][1])["type"] == "test"
    first, second = (owner.client.post(f"/api/webhooks/{hook}/rotate-secret").json()["data"]["secret"] for _ in "ab")
    assert first != second


def test_private_addresses_are_refused_unless_the_server_allows_them(live: Live, owner: Member) -> None:
    body = {"url": "https://127.0.0.1/hook", "types": ["system"]}
    answer = owner.client.post("/api/webhooks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "webhook_url")
    assert "private network" in answer.json()["error"]


def test_an_address_that_became_private_is_refused_when_it_is_called(
    live: Live, owner: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.settings, "allow_private_webhooks", True)
    with receiver() as kept:
        hook = made(owner, kept.url)["webhook"]["id"]
        monkeypatch.setattr(live.settings, "allow_private_webhooks", False)
        tell(live, owner, "a")
        (delivery,) = settled(owner, hook)
        assert "private network" in delivery["error"]
        assert not kept.calls


def test_only_those_who_manage_the_workspace_see_webhooks(live: Live, owner: Member) -> None:
    trainer = live.new_member(owner.workspace_id, Role.TRAINER)
    assert trainer.client.get("/api/webhooks").status_code == 403


def test_a_member_gets_by_mail_what_they_asked_for(live: Live, owner: Member, mails: Mailbox) -> None:
    prefer(owner, email=["job_failed"])
    tell(live, owner, "a")
    tell(live, owner, "b", type=NotificationType.JOB_FAILED, title="Training failed", action_url="/training/7")
    eventually("mailed", lambda: mails.mails)
    (mail,) = mails.mails
    assert f"To: {owner.email}" in mail
    assert "Training failed" in mail
    assert "/training/7" in mail
    assert "/settings/notifications" in mail
    sent = owner.client.get("/api/notifications/mail").json()["data"]
    assert eventually(
        "logged", lambda: owner.client.get("/api/notifications/mail").json()["data"]["items"][0]["sent_at"]
    )
    assert sent["total"] == 1


def test_a_mail_server_that_says_no_is_asked_again_with_the_same_message_id(
    live: Live, owner: Member, mails: Mailbox
) -> None:
    mails.refusals.append(b"451 later")
    prefer(owner, email=["dataset_ready"])
    tell(live, owner, "a")
    eventually("mailed", lambda: mails.mails)
    log = eventually(
        "sent",
        lambda: [
            item
            for item in owner.client.get("/api/notifications/mail").json()["data"]["items"]
            if item["status"] == "sent"
        ],
    )
    assert log[0]["attempts"] == 2
    assert f"Message-ID: <{log[0]['id']}@" in mails.mails[0]


def test_mail_waits_through_quiet_hours_and_comes_as_one(live: Live, owner: Member, mails: Mailbox) -> None:
    all_day = {"start": "00:00", "end": "23:59:59", "timezone": "UTC", "urgent_at_once": True}
    prefer(owner, email=["dataset_ready", "job_failed"], quiet_hours=all_day)
    tell(live, owner, "a", title="First")
    tell(live, owner, "b", title="Second")
    tell(live, owner, "c", type=NotificationType.JOB_FAILED, title="Urgent")
    eventually("the urgent one", lambda: mails.mails)
    assert "Urgent" in mails.mails[0]
    assert "First" not in mails.mails[0]

    async def the_hours_end(database: Database) -> None:
        from sqlalchemy import func, update

        async with database.transaction(workspace_id=owner.workspace_id) as session:
            await session.execute(update(Delivery).where(Delivery.user_id == owner.user_id).values(due_at=func.now()))
            await deliveries.ask_for_mail(session, owner.user_id, deliveries.utcnow())

    live.run(the_hours_end)
    eventually("the others", lambda: len(mails.mails) == 2)
    assert "First" in mails.mails[1]
    assert "Second" in mails.mails[1]
    assert "2 notifications" in mails.mails[1]


def test_without_a_mail_server_the_log_says_so(live: Live, owner: Member) -> None:
    prefer(owner, email=["dataset_ready"])
    assert owner.client.get("/api/notifications/preferences").json()["data"]["mail_available"] is False
    tell(live, owner, "a")
    log = eventually(
        "given up",
        lambda: [
            item
            for item in owner.client.get("/api/notifications/mail").json()["data"]["items"]
            if item["status"] == "failed"
        ],
    )
    assert "No mail server" in log[0]["error"]


def test_what_is_muted_stays_listed_but_does_not_count(live: Live, owner: Member) -> None:
    prefer(owner, muted=["dataset_ready"])
    tell(live, owner, "a")
    tell(live, owner, "b", type=NotificationType.JOB_FAILED)
    assert (listed(owner)["total"], listed(owner)["unread_count"]) == (2, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"muted": ["nonsense"]},
        {"quiet_hours": {"start": "22:00", "end": "22:00"}},
        {"quiet_hours": {"start": "22:00", "end": "07:00", "timezone": "Mars/Olympus"}},
        {"quiet_hours": {"start": "22:00+01:00", "end": "07:00"}},
        {"quiet_hours": {"start": "25:00", "end": "07:00"}},
    ],
)
def test_preferences_that_mean_nothing_are_refused(owner: Member, body: dict[str, Any]) -> None:
    assert owner.client.put("/api/notifications/preferences", json=body).status_code == 400


def test_every_type_has_words() -> None:
    assert set(TYPE_WORDS) == set(NotificationType)
