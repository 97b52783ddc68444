"""The components in a real browser, under the server's own headers: looks, keyboard, themes, live parts."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Visit, chromium, visit
from gallery_app import TOKEN, Backend, build, serve
from playwright.sync_api import Browser, expect

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build

pytestmark = pytest.mark.browser

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    hatch_build.build()
    with chromium() as started:
        yield started


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    with serve(build(made), made):
        yield made


@pytest.fixture
def desk(browser: Browser, backend: Backend) -> Iterator[Visit]:
    """The gallery on a desk, with its chart drawn."""
    with visit(browser, backend.url) as made:
        made.page.goto("/")
        made.page.wait_for_selector(".u-wrap")
        yield made
        assert made.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390, 360])
def test_the_browser_has_nothing_to_complain_of(browser: Browser, backend: Backend, theme: str, width: int) -> None:
    """No refused script or style, no failed request, no error; nothing is wider than the screen; AA contrast."""
    with visit(browser, backend.url, theme=theme, width=width, reduced_motion="reduce") as made:
        made.page.goto("/")
        made.page.wait_for_selector(".u-wrap")
        assert made.complaints == []
        assert made.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert made.page.evaluate(CONTRAST) == []


@pytest.mark.parametrize(
    "name", ["signin", "signup", "forgot_password", "reset_password", "accept_invitation", "signin_link"]
)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_signed_out_pages(browser: Browser, backend: Backend, theme: str, name: str) -> None:
    with visit(browser, backend.url, theme=theme, width=360) as made:
        made.page.goto(f"/accounts/{name}?wrong=1")
        expect(made.page.get_by_role("main").get_by_role("heading").first).to_be_visible()
        assert made.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert made.page.evaluate(CONTRAST) == []
        assert made.complaints == []


def test_the_system_theme_follows_the_system(browser: Browser, backend: Backend) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with visit(browser, backend.url, color_scheme="dark") as made:
        made.page.goto("/")
        dark = made.page.evaluate(background)
        made.page.emulate_media(color_scheme="light")
        assert made.page.evaluate(background) != dark
        # `dark:` utilities follow too, not only the tokens.
        expect(made.page.locator("#theme-trigger .lucide, #theme-trigger svg").nth(0)).to_be_visible()


def test_a_chosen_theme_is_there_before_any_script_after_a_reload(desk: Visit) -> None:
    page = desk.page
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("menuitemradio", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    answer = page.request.get(f"{desk.url}/")
    assert 'data-theme="dark"' in answer.text()[:200]


def test_a_menu_works_with_the_keyboard(desk: Visit) -> None:
    page = desk.page
    trigger = page.get_by_role("button", name="More actions")
    trigger.focus()
    page.keyboard.press("ArrowDown")
    expect(trigger).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(trigger).to_have_attribute("aria-expanded", "false")
    expect(trigger).to_be_focused()


def test_a_destructive_action_asks_and_can_be_undone(desk: Visit, backend: Backend) -> None:
    page = desk.page
    page.get_by_role("button", name="Cancel job").click()
    dialog = page.get_by_role("dialog", name="Cancel this job?")
    question = dialog.get_by_role("heading")  # the dialog's own box is empty: its content is fixed to the window
    expect(question).to_be_visible()
    expect(dialog.get_by_role("button", name="Keep running")).to_be_focused()
    page.keyboard.press("Escape")
    expect(question).not_to_be_visible()
    assert backend.posted == []
    page.get_by_role("button", name="Cancel job").click()
    dialog.get_by_role("button", name="Cancel job").click()
    expect(page.get_by_role("status").filter(has_text="Dataset deleted")).to_be_visible()
    assert backend.posted == [("/echo", {"csrf_token": TOKEN})]
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url("/")
    page.wait_for_selector(".u-wrap")
    assert backend.posted[1] == ("/undo", {"csrf_token": TOKEN})


def test_the_skip_link_is_the_first_stop(desk: Visit) -> None:
    desk.page.keyboard.press("Tab")
    link = desk.page.get_by_role("link", name="Skip to content")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()


def test_the_filter_changes_the_list_and_the_address_without_a_reload(desk: Visit) -> None:
    page = desk.page
    page.evaluate("window.notReloaded = true")
    page.get_by_role("combobox", name="Status").select_option("failed")
    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"/\?status=failed$"))
    assert page.evaluate("window.notReloaded") is True
    page.reload()
    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    page.wait_for_selector(".u-wrap")


def test_the_filter_works_without_scripts(browser: Browser, backend: Backend) -> None:
    with visit(browser, backend.url, java_script_enabled=False) as made:
        made.page.goto("/")
        made.page.get_by_role("combobox", name="Status").select_option("failed")
        made.page.get_by_role("button", name="Apply").click()
        expect(made.page.locator("#jobs tbody tr")).to_have_count(1)


def test_the_sidebar_on_a_phone(browser: Browser, backend: Backend) -> None:
    with visit(browser, backend.url, width=390) as made:
        page = made.page
        page.goto("/")
        page.wait_for_selector(".u-wrap")
        datasets = page.get_by_role("link", name="Datasets 12")
        expect(datasets).not_to_be_in_viewport()
        page.get_by_role("button", name="Sidebar").click()
        expect(datasets).to_be_in_viewport()
        assert page.evaluate("document.querySelector('.app').inert") is True
        page.keyboard.press("Escape")
        expect(datasets).not_to_be_in_viewport()
        expect(page.get_by_role("button", name="Sidebar")).to_be_focused()
        page.set_viewport_size({"width": 1200, "height": 800})
        expect(datasets).to_be_in_viewport()
        assert page.evaluate("document.querySelector('.app').inert") is False
        assert made.complaints == []


def test_an_event_refreshes_the_part_that_listens(desk: Visit, backend: Backend) -> None:
    page = desk.page
    expect(page.locator("html")).to_have_attribute("data-live", "on")
    bell = page.locator(".bell .count")
    expect(bell).to_have_text("4")
    backend.publish("notifications", {})
    expect(bell).to_have_text("5")
    assert page.evaluate("document.querySelector('#header-status').dataset.stale") is None


def test_an_event_brings_new_points_to_the_chart(desk: Visit, backend: Backend) -> None:
    page = desk.page
    last = page.locator('#loss [data-series="train"] [data-value]')
    backend.losses["train"].append([1300, 0.1234])
    backend.publish("job:1", {"step": 1300})
    expect(last).to_have_text("0.1234")
    page.get_by_text("Show the numbers").click()
    expect(page.locator("#loss details tbody tr").first).to_contain_text("1,300")
    page.get_by_label("Smooth").check()
    expect(last).not_to_have_text("0.1234")
    page.get_by_label("Log scale").check()
    page.wait_for_selector("#loss .u-wrap")


def test_a_lost_stream_comes_back_and_misses_nothing(browser: Browser) -> None:
    backend = Backend()
    with serve(build(backend), backend) as url, visit(browser, url) as made:
        made.page.goto("/")
        expect(made.page.locator("html")).to_have_attribute("data-live", "on")
        made.page.context.set_offline(True)
        backend.on_loop(lambda: None)
        made.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(made.page.locator("html")).to_have_attribute("data-live", "off")
        backend.publish("notifications", {})
        made.page.context.set_offline(False)
        expect(made.page.locator(".bell .count")).to_have_text("5")
        expect(made.page.locator("html")).to_have_attribute("data-live", "on")


def test_a_failed_request_says_so(desk: Visit) -> None:
    page = desk.page
    page.evaluate("htmx.ajax('POST', '/no/such/page', {target: '#jobs', swap: 'innerHTML'})")
    toast = page.get_by_role("alert").filter(has_text="There is nothing at this address")
    expect(toast).to_be_visible()
    expect(page.locator("#jobs tbody tr").first).to_be_visible()
    toast.get_by_role("button", name="Close").click()
    expect(toast).not_to_be_attached()
    # Chromium itself logs the 404 that this test asked for.
    desk.complaints[:] = [text for text in desk.complaints if "status of 404" not in text]
