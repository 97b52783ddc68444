"""The dataset pages in a real browser: upload, watch, read, delete, undo; live, without a reload."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Visit, chromium, visit
from playwright.sync_api import Browser, Page, expect

from live import Live, Member

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build

pytestmark = pytest.mark.browser

CHECKED = 60_000
"""Milliseconds that a check of a small file may take on a busy machine."""


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


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records))
    return path


@pytest.fixture
def good_file(tmp_path: Path) -> Path:
    """Sixty conversations, no two alike."""
    return write_lines(
        tmp_path / "kiln talk.jsonl",
        *(
            {
                "messages": [
                    {"role": "user", "content": f"How long does kiln {number} cool?"},
                    {"role": "assistant", "content": f"About {number + 10} hours, with the door shut."},
                ]
            }
            for number in range(60)
        ),
    )


@pytest.fixture
def faulty_file(tmp_path: Path) -> Path:
    turns = [{"role": "user", "content": "What is slip?"}, {"role": "assistant", "content": "Liquid clay."}]
    return write_lines(
        tmp_path / "mistakes.jsonl",
        {"conversation_id": "c1", "turns": turns},
        "This line is not even JSON",
        {"conversation_id": "c3", "turns": []},
    )


def upload(page: Page, file: Path, name: str | None = None) -> str:
    """Through the page, from the list; ends on the dataset's page. Its path."""
    page.goto("/datasets")
    page.get_by_role("link", name="Upload dataset").first.click()
    page.locator("form[data-upload] input[type=file]").set_input_files(file)
    if name:
        page.get_by_label("Name", exact=True).fill(name)
    page.locator("[data-upload-action=start]").click()
    page.wait_for_url(re.compile(r"/datasets/[0-9a-f-]{36}$"))
    return "/" + page.url.split("/", 3)[3]


def mark(page: Page) -> None:
    """Something that a reload would lose."""
    page.evaluate("window.neverReloaded = true")


def assert_never_reloaded(page: Page) -> None:
    assert page.evaluate("window.neverReloaded === true"), "the page was reloaded"


def test_an_uploaded_file_becomes_ready_before_ones_eyes(signed_in: Visit, good_file: Path) -> None:
    page = signed_in.page
    expect(page.get_by_text("No datasets yet")).to_be_visible()
    upload(page, good_file)
    mark(page)
    expect(page.locator("#dataset .badge").first).to_have_text("Ready", timeout=CHECKED)
    assert_never_reloaded(page)
    expect(page.locator("#statistics .stat").first).to_contain_text("Conversations")
    expect(page.locator("#statistics .stat-value").first).to_have_text("60")
    expect(page.locator("#statistics")).to_contain_text("exact: tiny")
    expect(page.locator("#samples .turn[data-trained] .bubble")).to_have_text(["About 10 hours, with the door shut."])
    expect(page.get_by_role("link", name="Start training")).to_be_visible()
    expect(page.locator(".bell .count")).to_have_text("1")
    page.get_by_role("link", name="Conversation 2").click()
    expect(page.locator("#samples .turn[data-trained] .bubble")).to_have_text(["About 11 hours, with the door shut."])
    assert signed_in.complaints == []


def test_a_faulty_file_shows_where_and_why_and_the_findings_can_be_narrowed(
    signed_in: Visit, faulty_file: Path
) -> None:
    page = signed_in.page
    upload(page, faulty_file)
    expect(page.locator("#dataset .badge").first).to_have_text("Error", timeout=CHECKED)
    expect(page.get_by_text("This dataset cannot be trained on yet")).to_be_visible()
    lines = page.locator("#findings tbody td:first-child")
    expect(lines).to_have_text(["2", "3"])
    expect(page.get_by_role("link", name="Start training")).to_have_count(0)
    page.get_by_role("link", name=re.compile(r"Show only these\s*: Broken JSON")).click()
    expect(lines).to_have_text(["2"])
    with page.expect_download() as download:
        page.locator("#issues").get_by_role("link", name="Download all findings as JSON Lines").click()
    assert len(download.value.path().read_text().splitlines()) == 2
    assert signed_in.complaints == []


def test_deleting_asks_and_undo_brings_it_back(signed_in: Visit, good_file: Path) -> None:
    page = signed_in.page
    path = upload(page, good_file, "Regretted")
    expect(page.locator("#dataset .badge").first).to_have_text("Ready", timeout=CHECKED)
    page.get_by_role("link", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Delete “Regretted”?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("link", name="Delete").click()
    dialog.get_by_role("button", name="Delete dataset").click()
    page.wait_for_url("**/datasets")
    expect(page.get_by_text("No datasets yet")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url(f"**{path}")
    expect(page.locator("#dataset .badge").first).to_have_text("Ready")
    assert signed_in.complaints == []


def test_the_list_follows_what_others_do_without_a_reload(
    signed_in: Visit, live: Live, owner: Member, good_file: Path
) -> None:
    page = signed_in.page
    page.goto("/datasets")
    expect(page.locator("html[data-live=on]")).to_be_attached()
    mark(page)
    content = good_file.read_bytes()
    body = {"name": "By the API", "file_name": "a.jsonl", "file_size": len(content)}
    created = owner.client.post("/api/datasets", json=body).json()["data"]
    expect(page.get_by_role("link", name="By the API")).to_be_visible()
    expect(page.locator("#dataset-list .badge")).to_have_text("Uploading")
    assert live.client().put(created["uploadUrl"], content=content).status_code in {200, 201}
    owner.client.post(f"/api/datasets/{created['dataset']['id']}/confirm")
    expect(page.locator("#dataset-list .badge")).to_have_text("Ready", timeout=CHECKED)
    expect(page.locator("#dataset-counts .stat-value").nth(1)).to_have_text("1")
    assert_never_reloaded(page)
    assert signed_in.complaints == []


def test_filters_change_the_list_and_the_address_and_the_skeleton_keeps_the_place(
    signed_in: Visit, owner: Member
) -> None:
    page = signed_in.page
    for name in ("Alpha", "Beta"):
        owner.client.post("/api/datasets", json={"name": name, "file_name": "a.jsonl", "file_size": 10})
    page.goto("/datasets")
    mark(page)
    held: list[bool] = []

    def slowly(route: object) -> None:
        """Answered only when the skeleton was seen."""
        page.locator("#dataset-list > .loading-skeleton").wait_for(state="visible")
        held.append(True)
        route.continue_()  # type: ignore[attr-defined]

    page.route(re.compile(r"/datasets\?.*search=bet"), slowly)
    page.get_by_label("Search by name or file").fill("bet")
    expect(page.locator(".card-link")).to_have_text(["Beta"])
    assert held
    assert page.url.endswith("/datasets?search=bet")
    page.get_by_label("Search by name or file").fill("gamma")
    expect(page.get_by_text("No datasets match")).to_be_visible()
    assert_never_reloaded(page)
    page.get_by_role("link", name="Clear filters").click()
    expect(page.locator(".card-link")).to_have_count(2)
    assert signed_in.complaints == []


def test_renaming_in_the_dialog(signed_in: Visit, owner: Member) -> None:
    page = signed_in.page
    made = owner.client.post("/api/datasets", json={"name": "Old name", "file_name": "a.jsonl", "file_size": 10})
    page.goto(f"/datasets/{made.json()['data']['dataset']['id']}")
    page.get_by_role("link", name="Edit").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("New name")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New name")
    expect(page.get_by_text("Saved")).to_be_visible()
    assert signed_in.complaints == []


def test_without_javascript_everything_but_the_upload_works(
    browser: Browser, live: Live, owner: Member, good_file: Path
) -> None:
    content = good_file.read_bytes()
    body = {"name": "Plain", "file_name": "a.jsonl", "file_size": len(content)}
    created = owner.client.post("/api/datasets", json=body).json()["data"]
    path = f"/datasets/{created['dataset']['id']}"
    with visit(browser, live.url, java_script_enabled=False) as made:
        page = made.page
        page.goto(live.signin_link(owner.user_id))
        page.get_by_role("button", name="Sign in").click()
        page.goto("/datasets/new")
        # Chromium keeps <noscript> as text while scripts are switched off from outside.
        assert "Only the upload itself needs JavaScript" in page.content()
        page.goto("/datasets")
        page.get_by_label("Search by name or file").fill("nothing like it")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_text("No datasets match")).to_be_visible()
        page.get_by_role("link", name="Clear filters").click()
        page.get_by_role("link", name="Plain").click()
        page.get_by_role("link", name="Edit").click()
        page.get_by_label("Name", exact=True).fill("Plain HTML")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Plain HTML")
        live.client().put(created["uploadUrl"], content=content)
        owner.client.post(f"/api{path}/confirm")
        page.get_by_role("link", name="Delete").or_(page.get_by_role("link", name="Cancel the upload")).first.click()
        expect(page).to_have_url(f"{live.url}{path}/delete")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_no_page_is_wider_than_the_screen(
    browser: Browser, live: Live, owner: Member, faulty_file: Path, theme: str, width: int
) -> None:
    content = faulty_file.read_bytes()
    body = {"name": "W" * 120, "file_name": "w" * 200 + ".jsonl", "file_size": len(content), "description": "x" * 300}
    created = owner.client.post("/api/datasets", json=body).json()["data"]
    live.client().put(created["uploadUrl"], content=content)
    owner.client.post(f"/api/datasets/{created['dataset']['id']}/confirm")
    with visit(browser, live.url, theme=theme, width=width) as made:
        page = made.page
        page.goto(live.signin_link(owner.user_id))
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "signin" not in url)
        path = f"/datasets/{created['dataset']['id']}"
        page.goto(path)
        expect(page.locator("#dataset .badge").first).to_have_text("Error", timeout=CHECKED)
        for address in (path, "/", "/datasets", "/datasets/new", "/datasets/trash", "/notifications", f"{path}/edit"):
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, address
        assert made.complaints == []
