"""One notification per event, for all members of a workspace, read by each for themselves."""

from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from brightrun.accounts.roles import Role
from brightrun.clock import utcnow
from brightrun.db.roles import DatabaseUrls, libpq
from brightrun.db.session import Database
from brightrun.notifications import NotificationType, Priority, notify
from brightrun.notifications.tasks import KEEP_DAYS, delete_old_notifications
from brightrun.platform import Platform
from live import Live, Member


def tell(live: Live, member: Member, key: str, **values: object) -> bool:
    async def work(database: Database) -> bool:
        async with database.transaction(workspace_id=member.workspace_id) as session:
            return await notify(
                session,
                **{  # type: ignore[arg-type]
                    "type": NotificationType.DATASET_READY,
                    "title": "Dataset ready",
                    "message": "pottery.jsonl has 5 conversations.",
                    "dedupe_key": key,
                    **values,
                },
            )

    return bool(live.run(work))


def listed(member: Member, **query: object) -> dict:
    response = member.client.get("/api/notifications", params=query)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def test_a_notification_shows_what_happened_and_where_to_go(live: Live, owner: Member) -> None:
    assert tell(live, owner, "a", action_url="/datasets/7", metadata={"dataset_id": "7"})
    answer = listed(owner)
    assert (answer["total"], answer["unread_count"]) == (1, 1)
    item = answer["items"][0]
    assert {key: item[key] for key in ("type", "title", "priority", "action_url", "metadata", "read")} == {
        "type": "dataset_ready",
        "title": "Dataset ready",
        "priority": "medium",
        "action_url": "/datasets/7",
        "metadata": {"dataset_id": "7"},
        "read": False,
    }


def test_one_event_is_told_once_however_often_its_task_runs(live: Live, owner: Member) -> None:
    assert tell(live, owner, "job_failed:1", type=NotificationType.JOB_FAILED)
    assert not tell(live, owner, "job_failed:1", type=NotificationType.JOB_FAILED)
    assert listed(owner)["total"] == 1
    assert listed(owner)["items"][0]["priority"] == "high"


def test_the_same_key_in_another_workspace_is_another_event(live: Live, owner: Member) -> None:
    other = live.new_workspace()
    assert tell(live, owner, "same")
    assert tell(live, other, "same")
    assert listed(other)["total"] == 1


def test_each_member_reads_for_themselves_and_twice_does_no_harm(live: Live, owner: Member) -> None:
    viewer = live.new_member(owner.workspace_id, Role.VIEWER)
    tell(live, owner, "a")
    tell(live, owner, "b")
    first = listed(owner)["items"][0]["id"]
    for _ in range(2):
        response = owner.client.post(f"/api/notifications/{first}/read")
        assert response.status_code == 200
        assert response.json()["data"]["notification"]["read"] is True
    assert listed(owner)["unread_count"] == 1
    assert [item["id"] for item in listed(owner, unread=True)["items"]] != [first]
    assert listed(viewer)["unread_count"] == 2
    assert viewer.client.post("/api/notifications/read-all").json()["data"] == {"marked": 2}
    assert viewer.client.post("/api/notifications/read-all").json()["data"] == {"marked": 0}
    assert listed(viewer)["unread_count"] == 0
    assert listed(owner)["unread_count"] == 1


def test_a_new_member_starts_with_nothing_to_catch_up_on(live: Live, owner: Member) -> None:
    tell(live, owner, "before")
    late = live.new_member(owner.workspace_id, Role.TRAINER)
    answer = listed(late)
    assert (answer["total"], answer["unread_count"], answer["items"][0]["read"]) == (1, 0, True)


def test_a_foreign_or_unknown_notification_is_not_found(live: Live, owner: Member) -> None:
    other = live.new_workspace()
    tell(live, owner, "mine")
    mine = listed(owner)["items"][0]["id"]
    for identifier in (mine, uuid4()):
        response = other.client.post(f"/api/notifications/{identifier}/read")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert listed(other)["total"] == 0


def test_a_notification_reaches_an_open_page_without_a_reload(live: Live, owner: Member) -> None:
    with owner.client.stream("GET", "/api/events", params={"topics": "notifications"}) as response:
        lines = response.iter_lines()
        while not next(lines).startswith("id: "):
            continue
        tell(live, owner, "live", priority=Priority.HIGH)
        while (line := next(lines)) != "event: notification.created":
            assert not line.startswith("event: ")
        assert '"title":"Dataset ready"' in next(lines)


def test_a_long_title_is_shortened_visibly(live: Live, owner: Member) -> None:
    tell(live, owner, "long", title="x" * 300)
    title = listed(owner)["items"][0]["title"]
    assert len(title) == 200
    assert title.endswith("…")


@pytest.mark.anyio
async def test_a_notification_needs_a_workspace(app_db: Database) -> None:
    async with app_db.transaction() as session:
        with pytest.raises(LookupError, match="workspace"):
            await notify(session, type=NotificationType.SYSTEM, title="x", message="y", dedupe_key="z")


def test_old_notifications_are_deleted_with_their_read_marks(live: Live, owner: Member, pg_urls: DatabaseUrls) -> None:
    tell(live, owner, "old")
    tell(live, owner, "new")
    owner.client.post("/api/notifications/read-all")
    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:
        connection.execute(
            "update notifications set created_at = %s where dedupe_key = 'old' and workspace_id = %s",
            [utcnow() - timedelta(days=KEEP_DAYS + 1), owner.workspace_id],
        )

    async def clean(_: Database) -> None:
        worker = Database(pg_urls.worker.render_as_string(hide_password=False), pool_size=1)
        platform = Platform(settings=live.settings, secret=b"", db=worker, store=None, public_url="")  # type: ignore[arg-type]
        await delete_old_notifications(platform)
        await worker.dispose()

    live.run(clean)
    assert listed(owner)["total"] == 1
