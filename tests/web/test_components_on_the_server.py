"""The client modules against the real server: its sessions, its headers, its storage, its event stream."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Visit, chromium, visit, wait_until
from playwright.sync_api import Browser, expect

from brightrun.web.assets import asset
from live import Live, Member

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build

pytestmark = pytest.mark.browser

# 20 MB of rows, sent by the module that the upload panel drives; answers the dataset's id.
SEND = """async ([transferUrl, apiUrl, token, rows]) => {
  const meta = document.querySelector('meta[name="csrf-token"]') ?? document.head.appendChild(
    Object.assign(document.createElement("meta"), {name: "csrf-token"}));
  meta.content = token;
  const {Transfer} = await import(transferUrl);
  const {call} = await import(apiUrl);
  const answer = {role: "assistant", content: "x".repeat(900)};
  const row = JSON.stringify({messages: [{role: "user", content: "Hi"}, answer]});
  const file = new File([(row + "\\n").repeat(rows)], "rows.jsonl");
  const fields = {name: "rows", file_name: file.name, file_size: file.size};
  const created = await call("POST", "/api/datasets", fields);
  const base = `/api/datasets/${created.dataset.id}`;
  const urls = {statusUrl: `${base}/upload`, confirmUrl: `${base}/confirm`};
  const first = new Transfer(file, created, urls);
  // Interrupted after the first part, then resumed as after a reload.
  first.addEventListener("progress", () => first.stored && first.pause());
  await first.run().catch((error) => { if (error.name !== "AbortError") throw error; });
  const status = await call("GET", urls.statusUrl);
  const second = new Transfer(file, status, urls);
  await second.run();
  return {id: created.dataset.id, stored: status.multipart.stored.length, parts: created.multipart.parts.length};
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    hatch_build.build()
    with chromium() as started:
        yield started


@pytest.fixture
def signed_in(browser: Browser, live: Live, owner: Member) -> Iterator[Visit]:
    with visit(browser, live.url) as made:
        made.page.goto(live.signin_link(owner.user_id))
        made.page.get_by_role("button", name="Sign in").click()
        made.page.wait_for_url(lambda url: "signin" not in url)
        yield made


def test_the_header_of_a_signed_in_page_is_a_part_of_its_own(signed_in: Visit) -> None:
    page = signed_in.page
    page.goto("/partials/header-status")
    expect(page.locator("#header-status .bell")).to_be_visible()


def test_signed_out_the_part_leads_to_the_sign_in_page(browser: Browser, live: Live) -> None:
    with visit(browser, live.url, theme="dark") as made:
        made.page.goto("/partials/header-status")
        expect(made.page).to_have_title("Sign in · BrightRun")
        expect(made.page.locator("html")).to_have_attribute("data-theme", "dark")
        assert made.complaints == []


def test_a_wrong_password_is_said_and_nothing_else_is(browser: Browser, live: Live, owner: Member) -> None:
    with visit(browser, live.url) as made:
        made.page.goto("/signin")
        made.page.get_by_label("E-mail").fill(owner.email)
        made.page.get_by_label("Password").fill("not the password")
        made.page.get_by_role("button", name="Sign in").click()
        expect(made.page.get_by_role("alert")).to_be_visible()
        expect(made.page.get_by_label("E-mail")).to_have_value(owner.email)


def test_an_interrupted_upload_goes_on_and_the_bytes_are_the_same(signed_in: Visit, live: Live, owner: Member) -> None:
    page = signed_in.page
    page.goto("/signin-link/x")  # any page of ours: the modules run under its policy
    token = csrf_of(signed_in)
    rows = 40_000
    sent = page.evaluate(SEND, [asset("js/transfer.js"), asset("js/api.js"), token, rows])
    assert 0 < sent["stored"] < sent["parts"]
    row = '{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"' + "x" * 900 + '"}]}\n'
    expected = hashlib.sha256(row.encode() * rows).hexdigest()
    answer = owner.client.get(f"/api/datasets/{sent['id']}/download", follow_redirects=True)
    assert hashlib.sha256(answer.content).hexdigest() == expected


def csrf_of(signed_in: Visit) -> str:
    return str(signed_in.page.evaluate("fetch('/api/me').then((answer) => answer.headers.get('X-CSRF-Token'))"))


LISTEN = """async (sseUrl) => {
  const {readEvents} = await import(sseUrl);
  const stop = new AbortController();
  window.heard = [];
  window.ids = [];
  const opened = new Promise((resolve) => {
    readEvents("/api/events?topics=datasets", {
      lastEventId: "", signal: stop.signal, onOpen: resolve,
      onId: (id) => window.ids.push(id),
      onEvent: ({name, data}) => window.heard.push({name, ...JSON.parse(data)}),
    }).catch(() => {});
  });
  await opened;
  window.stopListening = () => stop.abort();
}"""


def test_the_event_stream_of_the_server_is_understood(signed_in: Visit, owner: Member) -> None:
    page = signed_in.page
    page.goto("/signin-link/x")
    page.evaluate(LISTEN, asset("js/sse.js"))
    made = owner.client.post("/api/datasets", json={"name": "live", "file_name": "a.jsonl", "file_size": 10})
    assert made.status_code == 201
    wait_until(page, "window.heard.length > 0 && window.ids.length > 0")
    event = page.evaluate("window.heard[0]")
    assert event["topic"] == "datasets"
    assert event["kind"] == event["name"]
    page.evaluate("window.stopListening()")
