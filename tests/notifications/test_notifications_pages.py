"""The page of notifications, with forms and links as a browser without JavaScript has them."""

import re

import httpx2
import pytest

from brightrun.accounts.roles import Role
from brightrun.db.session import Database
from brightrun.notifications import looks
from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType
from live import Live, Member


def sign_in(live: Live, member: Member) -> httpx2.Client:
    browser = live.client()
    link = live.signin_link(member.user_id)
    assert browser.post(link, data={"csrf_token": csrf(browser.get(link))}).status_code == 303
    return browser


def csrf(page: httpx2.Response) -> str:
    found = re.search(r'name="csrf(?:_token" value|-token" content)="([0-9a-f]{64})"', page.text)
    assert found, page.text[:2000]
    return found[1]


def post(browser: httpx2.Client, path: str, **fields: str) -> httpx2.Response:
    return browser.post(path, data={"csrf_token": csrf(browser.get("/notifications")), **fields})


def tell(live: Live, member: Member, *titles: str, action_url: str | None = None) -> None:
    async def work(database: Database) -> None:
        async with database.transaction(user_id=member.user_id, workspace_id=member.workspace_id) as session:
            for title in titles:
                await notify(
                    session,
                    type=NotificationType.DATASET_READY,
                    title=title,
                    message=f"{title} has `turns`.",
                    dedupe_key=f"test:{title}",
                    action_url=action_url,
                )

    live.run(work)


def shown(browser: httpx2.Client, **params: str) -> list[tuple[str, bool]]:
    """(id, unread?) of each notification on the page, in order."""
    page = browser.get("/notifications", params=params)
    assert page.status_code == 200, page.text
    found = re.findall(r'<li id="notification-([0-9a-f-]+)"( data-unread="true")?>', page.text)
    return [(identity, bool(unread)) for identity, unread in found]


@pytest.fixture
def browser(live: Live, owner: Member) -> httpx2.Client:
    return sign_in(live, owner)


def test_nothing_yet_says_what_will_be_told_here(browser: httpx2.Client):
    assert "Nothing has happened yet" in browser.get("/notifications").text
    assert "Nothing unread" in browser.get("/notifications", params={"show": "unread"}).text


def test_newest_first_with_the_way_there_and_code_set_as_code(live: Live, owner: Member, browser: httpx2.Client):
    tell(live, owner, "First", "Second", action_url="/datasets")
    page = browser.get("/notifications")
    assert page.text.index("Second") < page.text.index("First")
    assert '<code class="mono">turns</code>' in page.text
    assert 'aria-label="Notifications, 2 unread"' in page.text


def test_one_is_marked_as_read_and_only_for_its_reader(live: Live, owner: Member, browser: httpx2.Client):
    colleague = sign_in(live, live.new_member(owner.workspace_id, Role.VIEWER))
    tell(live, owner, "One", "Two")
    (second, _), (first, _) = shown(browser)
    answer = post(browser, f"/notifications/{first}/read", show="unread")
    assert (answer.status_code, answer.headers["location"]) == (303, "/notifications?show=unread")
    assert shown(browser) == [(second, True), (first, False)]
    assert shown(browser, show="unread") == [(second, True)]
    assert shown(colleague) == [(second, True), (first, True)]


def test_all_are_marked_as_read_at_once(live: Live, owner: Member, browser: httpx2.Client):
    tell(live, owner, "One", "Two", "Three")
    assert post(browser, "/notifications/read-all").headers["location"] == "/notifications"
    page = browser.get("/notifications")
    assert "3 notifications marked as read" in page.text
    assert "data-unread" not in page.text
    assert "Mark all as read" not in page.text
    assert 'aria-label="Notifications"' in page.text, "the bell counts none"


def test_opening_one_leads_to_its_thing_and_marks_it(live: Live, owner: Member, browser: httpx2.Client):
    tell(live, owner, "Look", action_url="/datasets?status=ready")
    ((identity, _),) = shown(browser)
    answer = post(browser, f"/notifications/{identity}/open")
    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets?status=ready")
    assert shown(browser) == [(identity, False)]


def test_those_of_another_workspace_are_not_there(live: Live, owner: Member, browser: httpx2.Client):
    stranger = live.new_workspace()
    tell(live, stranger, "Theirs")
    ((theirs, _),) = shown(sign_in(live, stranger))
    assert shown(browser) == []
    for action in ("read", "open"):
        assert post(browser, f"/notifications/{theirs}/{action}").status_code == 404


def test_pages_of_25(live: Live, owner: Member, browser: httpx2.Client):
    tell(live, owner, *(f"Number {number}" for number in range(27)))
    assert len(shown(browser)) == 25
    assert len(shown(browser, page="2")) == 2
    assert "past the end" in browser.get("/notifications", params={"page": "9"}).text


def test_every_type_has_a_look():
    for kind in NotificationType:
        assert looks.look(kind.value).icon
