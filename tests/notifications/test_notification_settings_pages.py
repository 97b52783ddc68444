"""The settings of notifications and the pages of webhooks, as a browser without JavaScript has them."""

import re

import pytest
from receiver import receiver
from test_notifications import tell
from test_notifications_pages import csrf, sign_in

from brightrun.accounts.roles import Role
from live import Live, Member
from waiting import eventually


def test_what_is_chosen_is_kept_and_what_means_nothing_is_explained(live: Live, owner: Member) -> None:
    browser = sign_in(live, owner)
    page = browser.get("/settings/notifications")
    assert "Mail is not set up" in page.text
    fields = {
        "csrf_token": csrf(page), "panel": ["job_failed"], "email": ["job_failed", "cost_alert"], "quiet": "on",
        "start": "21:00", "end": "06:30", "timezone": "Europe/Berlin",
    }  # fmt: skip
    assert browser.post("/settings/notifications", data=fields).status_code == 303
    saved = owner.client.get("/api/notifications/preferences").json()["data"]["preferences"]
    assert saved["email"] == ["cost_alert", "job_failed"]
    assert "job_failed" not in saved["muted"]
    assert len(saved["muted"]) == 9
    assert saved["quiet_hours"] == {
        "start": "21:00:00", "end": "06:30:00", "timezone": "Europe/Berlin", "urgent_at_once": False,
    }  # fmt: skip
    page = browser.get("/settings/notifications").text
    assert 'value="21:00"' in page
    assert re.search(r'value="Europe/Berlin"[^>]*selected', page)
    refused = browser.post("/settings/notifications", data=fields | {"end": "21:00"})
    assert refused.status_code == 400
    assert "never let mail through" in refused.text
    refused = browser.post("/settings/notifications", data=fields | {"start": "late"})
    assert refused.status_code == 400


def test_a_webhook_is_made_tested_switched_and_deleted_on_its_pages(
    live: Live, owner: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.settings, "allow_private_webhooks", True)
    browser = sign_in(live, owner)
    token = csrf(browser.get("/settings/webhooks"))

    def send(path: str, **fields: object) -> tuple[int, str]:
        answer = browser.post("/settings/webhooks" + path, data={"csrf_token": token} | fields)
        return answer.status_code, answer.text

    status, page = send("", url="https://8.8.8.8:0x/", types=["system"])
    assert status == 400
    assert "no URL" in page
    status, page = send("", url="https://8.8.8.8/hook")
    assert status == 400
    assert "Choose at least one" in page
    with receiver() as other_side:
        status, page = send("", url=other_side.url, types=["dataset_ready"])
        assert status == 200
        assert "whsec_" in page
        href = re.search(r'href="/settings/webhooks(/[0-9a-f-]{36})"', page)
        assert href is not None
        path = href[1]
        assert "Nothing sent yet" in browser.get("/settings/webhooks" + path).text
        other_side.answers.append(400)
        tell(live, owner, "a")
        url = "/settings/webhooks" + path
        eventually("listed", lambda: "It answered 400" in browser.get(url).text)
        retry = re.search(r'action="/settings/webhooks([^"]*/retry)"', browser.get(url).text)
        assert retry is not None
        assert send(retry[1])[0] == 303
        eventually("sent again", lambda: "Send again" not in browser.get(url).text and "Sent" in browser.get(url).text)
        assert send(path + "/test")[0] == 303
        eventually("tested", lambda: len(other_side.calls) == 3)
        assert send(path + "/switch")[0] == 303
        assert "This webhook is off" in browser.get(url).text
        assert "whsec_" in send(path + "/rotate-secret")[1]
        assert send(path + "/delete")[0] == 303
        assert browser.get(url).status_code == 404


def test_a_viewer_has_preferences_but_no_webhooks(live: Live, owner: Member) -> None:
    browser = sign_in(live, live.new_member(owner.workspace_id, Role.VIEWER))
    page = browser.get("/settings/notifications").text
    assert "/settings/webhooks" not in page
    assert browser.get("/settings/webhooks").status_code == 403
