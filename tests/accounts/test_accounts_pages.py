"""Signing in and out on pages, as a browser without JavaScript would."""

import re

import httpx2
import pytest

from live import Live, Member


def csrf(page: httpx2.Response) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page.text)
    assert found, page.text[:2000]
    return found[1]


def submit(client: httpx2.Client, path: str, **fields: str) -> httpx2.Response:
    """Fetch the form at `path`, fill it, send it."""
    page = client.get(path)
    assert page.status_code == 200, page.text
    return client.post(path, data={"csrf_token": csrf(page), **fields})


@pytest.fixture
def browser(live: Live):
    with httpx2.Client(base_url=live.url, timeout=30) as client:
        yield client


def test_a_one_time_link_signs_in_once_and_only_on_its_button(live: Live, owner: Member, browser: httpx2.Client):
    link = live.signin_link(owner.user_id)
    assert browser.get(link).status_code == 200, "a preview does not use the link up"
    answer = submit(browser, link)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert browser.get("/api/me").json()["data"]["user"]["email"] == owner.email
    again = httpx2.Client(base_url=live.url)
    refused = submit(again, link)
    assert refused.status_code == 401
    assert "used already" in refused.text


def test_a_new_link_voids_the_one_before(live: Live, owner: Member, browser: httpx2.Client):
    first, second = live.signin_link(owner.user_id), live.signin_link(owner.user_id)
    assert submit(browser, first).status_code == 401
    assert submit(browser, second).status_code == 303


def test_a_page_asks_to_sign_in_and_then_goes_on(live: Live, browser: httpx2.Client):
    answer = browser.get("/datasets?status=error")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/signin?next=/datasets%3Fstatus%3Derror"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:x"])
def test_signing_in_never_leads_to_another_site(live: Live, browser: httpx2.Client, target: str):
    page = browser.get("/signin", params={"next": target})
    assert 'name="next" value="/"' in page.text


def test_a_form_without_its_token_is_refused(browser: httpx2.Client):
    answer = browser.post("/signin", data={"email": "a@example.com", "password": "x"})
    assert answer.status_code == 403
    assert "out of date" in answer.text


def test_a_wrong_password_says_so_and_keeps_the_email(browser: httpx2.Client):
    answer = submit(browser, "/signin", email="someone@example.com", password="wrong password")
    assert answer.status_code == 401
    assert "E-mail or password is wrong" in answer.text
    assert "someone@example.com" in answer.text


def test_an_invitation_page_makes_the_account_and_signs_in(live: Live, owner: Member, browser: httpx2.Client):
    made = owner.client.post(
        f"/api/workspaces/{owner.workspace_id}/invitations", json={"email": "pages@example.com", "role": "trainer"}
    ).json()["data"]
    weak = submit(browser, made["link"], name="Pat", password="short")
    assert weak.status_code == 400
    assert "at least 10 characters" in weak.text
    joined = submit(browser, made["link"], name="Pat", password="a long password")
    assert joined.status_code == 303
    assert browser.get("/api/me").json()["data"]["workspace"]["role"] == "trainer"
    assert httpx2.get(made["link"]).status_code == 401, "the link was used"


def test_signing_out_ends_the_session_on_the_server(live: Live, owner: Member, browser: httpx2.Client):
    submit(browser, live.signin_link(owner.user_id))
    token = browser.get("/api/me").headers["x-csrf-token"]
    stolen = dict(browser.cookies)
    assert browser.post("/signout", data={"csrf_token": token}).status_code == 303
    assert httpx2.get(f"{live.url}/api/me", cookies=stolen).status_code == 401


def test_sign_up_is_off_unless_switched_on(browser: httpx2.Client):
    assert browser.get("/signup").status_code == 404


def test_an_unknown_page_is_a_page_that_says_so(browser: httpx2.Client):
    answer = browser.get("/nothing-here")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
