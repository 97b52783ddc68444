"""Finding jobs again, and doing one thing to many: filters, search, tags, notes, bulk actions, page and terminal."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from job_steps import AddDataset, data, get, started
from sqlalchemy import event, text, update

from brightrun.accounts.roles import Role
from brightrun.clock import utcnow
from brightrun.db.roles import libpq
from brightrun.db.session import Database
from brightrun.training import repository
from brightrun.training.repository import JobFilter
from brightrun.training.tables import TrainingJob
from brightrun.web.http import Page
from live import Live, Member
from page_client import PageClient, words


def listed(member: Member, **filters: Any) -> list[str]:
    """Names, oldest first."""
    answer = data(member.client.get("/api/jobs", params={"sort": "created_at", "limit": 100, **filters}))
    assert answer["total"] == len(answer["items"])
    return [job["name"] for job in answer["items"]]


def change(live: Live, member: Member, job_id: str, **values: Any) -> None:
    async def work(database: Database) -> None:
        async with database.transaction(workspace_id=member.workspace_id) as session:
            await session.execute(update(TrainingJob).where(TrainingJob.id == UUID(job_id)).values(**values))

    live.run(work)


def finish(live: Live, member: Member, job_id: str, status: str = "failed") -> None:
    change(live, member, job_id, status=status, error_code="bug", error_message="It broke.", completed_at=utcnow())


def bulk(member: Member, action: str, *ids: str, **options: Any) -> dict[str, Any]:
    answer = member.client.post("/api/jobs/bulk", json={"action": action, "ids": list(ids), **options})
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = data(answer)["bulk"]
    return done


@pytest.fixture
def four(trainer_owner: Member, dataset_id: str) -> list[str]:
    """Ids of jobs called a, b, c, d."""
    return [started(trainer_owner, dataset_id, name=name)["id"] for name in "abcd"]


def test_filters_narrow_the_list_and_combine(
    quiet: Live, trainer_owner: Member, dataset_id: str, four: list[str], add_dataset: AddDataset
) -> None:
    owner, other = trainer_owner, quiet.new_member(trainer_owner.workspace_id, Role.TRAINER)
    second = add_dataset(quiet, owner)
    started(owner, second, name="e", preset_id="conservative", base_model="tiny")
    started(other, dataset_id, name="f")
    assert listed(owner, dataset_id=second) == listed(owner, base_model="tiny") == ["e"]
    assert listed(owner, preset_id="conservative") == ["e"]
    assert listed(owner, created_by=str(other.user_id)) == ["f"]
    bulk(owner, "pause", four[0], four[1])
    assert listed(owner, status="paused") == ["a", "b"]
    assert listed(owner, status=["paused", "queued"], created_by=str(owner.user_id)) == ["a", "b", "c", "d", "e"]
    change(quiet, owner, four[2], created_at=utcnow() - timedelta(days=40))
    before = (utcnow() - timedelta(days=30)).isoformat()
    assert listed(owner, until=before) == ["c"]
    assert listed(owner, since=before) == ["a", "b", "d", "e", "f"]
    assert owner.client.get("/api/jobs", params={"since": "yesterday"}).status_code == 400
    assert owner.client.get("/api/jobs", params={"tag": "!"}).status_code == 400


def test_tags_are_kept_in_one_spelling_counted_and_searched(trainer_owner: Member, four: list[str]) -> None:
    owner = trainer_owner

    def put(job_id: str, *tags: str) -> Any:
        return owner.client.put(f"/api/jobs/{job_id}/tags", json={"tags": tags})

    assert data(put(four[0], "Client A", " client-a ", "prüfung"))["tags"] == ["client-a", "prüfung"]
    data(put(four[1], "client-a"))
    assert listed(owner, tag="Client A") == ["a", "b"]
    assert listed(owner, tag=["client-a", "prüfung"]) == ["a"]
    assert listed(owner, search="RÜFU") == ["a"]
    counted = data(owner.client.get("/api/jobs/tags"))["tags"]
    assert counted == [{"tag": "client-a", "jobs": 2}, {"tag": "prüfung", "jobs": 1}]
    assert data(owner.client.get("/api/jobs/tags", params={"search": "prü"}))["tags"] == counted[1:]
    assert data(put(four[0]))["tags"] == []
    for wrong in ("", "-", "a/b", "<b>", "x" * 31, "a,b"):
        assert put(four[0], wrong).status_code == 400, wrong
    assert put(four[0], *(f"t{n}" for n in range(11))).status_code == 400
    assert get(owner, four[0])["tags"] == []


def test_notes_say_who_and_when_and_are_found(quiet: Live, trainer_owner: Member, four: list[str]) -> None:
    owner, other = trainer_owner, quiet.new_member(trainer_owner.workspace_id, Role.TRAINER)
    path = f"/api/jobs/{four[1]}/notes"
    mine = data(owner.client.post(path, json={"text": "  Too <eager> with 100% of it  "}))["note"]
    assert (mine["text"], mine["author"]) == ("Too <eager> with 100% of it", owner.email)
    theirs = data(other.client.post(path, json={"text": "Another try"}))["note"]
    assert [note["text"] for note in data(owner.client.get(path))["notes"]] == [theirs["text"], mine["text"]]
    assert listed(owner, search="100%") == ["b"]
    assert listed(owner, search="100_") == []
    assert get(owner, four[1])["notes"] == 2
    for wrong in ("", "   ", "x" * 2001):
        assert owner.client.post(path, json={"text": wrong}).status_code == 400
    assert other.client.delete(f"{path}/{mine['id']}").status_code == 403, "only one's own"
    elsewhere = f"/api/jobs/{four[0]}/notes/{mine['id']}"
    assert owner.client.delete(elsewhere).status_code == 404, "a note of another job"
    assert [note["id"] for note in data(owner.client.delete(f"{path}/{theirs['id']}"))["notes"]] == [mine["id"]]


def test_a_bulk_action_says_of_each_job_what_became_of_it(quiet: Live, trainer_owner: Member, four: list[str]) -> None:
    owner = trainer_owner
    finish(quiet, owner, four[3])
    unknown = "00000000-0000-7000-8000-000000000000"
    done = bulk(owner, "cancel", *four, unknown, four[0], reason="testing", note="All of them")
    assert (done["done"], done["refused"], len(done["results"])) == (3, 2, 5)
    assert [(result["name"], result["ok"], result["code"]) for result in done["results"]] == [
        ("a", True, None), ("b", True, None), ("c", True, None), ("d", False, "job_ended"), (None, False, "not_found"),
    ]  # fmt: skip
    cancelled = get(owner, four[0])
    assert (cancelled["cancel_reason"], cancelled["cancel_note"]) == ("testing", "All of them")
    assert bulk(owner, "cancel", four[0])["done"] == 1, "again is harmless"
    assert bulk(owner, "retry", *four)["done"] == 4
    assert bulk(owner, "pause", *four)["done"] == 4
    resumed = bulk(owner, "resume", *four)
    assert resumed["results"][0]["message"] == "It starts from the beginning."
    assert bulk(owner, "priority", *four, priority="low")["done"] == 4
    assert bulk(owner, "tag", *four, tags=["Night run"])["done"] == 4
    assert listed(owner, tag="night-run") == ["a", "b", "c", "d"]
    assert bulk(owner, "untag", four[0], tags=["night-run"])["results"][0]["message"] == "It has no tags any more."
    for body in (
        {"action": "explode", "ids": four}, {"action": "tag", "ids": four}, {"action": "cancel", "ids": []},
        {"action": "priority", "ids": four}, {"action": "pause", "ids": [*four] * 30},
    ):  # fmt: skip
        assert owner.client.post("/api/jobs/bulk", json=body).status_code == 400, body
    viewer = quiet.new_member(owner.workspace_id, Role.VIEWER)
    assert viewer.client.post("/api/jobs/bulk", json={"action": "pause", "ids": four}).status_code == 403


def test_archived_jobs_leave_the_list_and_come_back(quiet: Live, trainer_owner: Member, four: list[str]) -> None:
    owner = trainer_owner
    for job_id in four[:2]:
        finish(quiet, owner, job_id)
    done = bulk(owner, "archive", *four)
    assert [result["code"] for result in done["results"]] == [None, None, "job_not_ended", "job_not_ended"]
    assert listed(owner) == ["c", "d"]
    assert listed(owner, archived="only") == ["a", "b"]
    assert listed(owner, archived="all") == ["a", "b", "c", "d"]
    assert get(owner, four[0])["archived_at"] is not None
    bulk(owner, "unarchive", four[0])
    assert listed(owner) == ["a", "c", "d"]
    bulk(owner, "retry", four[1])
    assert listed(owner) == ["a", "b", "c", "d"], "what is retried is back"


# --- pages ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(quiet: Live, trainer_owner: Member) -> Iterator[PageClient]:
    with PageClient(quiet, trainer_owner) as client:
        yield client


def test_the_state_of_the_list_is_in_its_address(
    browser: PageClient, quiet: Live, trainer_owner: Member, dataset_id: str, four: list[str]
) -> None:
    bulk(trainer_owner, "tag", four[2], tags=["client-a"])
    finish(quiet, trainer_owner, four[3])
    address = f"/training?tag=client-a&dataset={dataset_id}&period=7&who={trainer_owner.user_id}&sort=name"
    page = browser.get(address)
    assert four[2] in page
    assert four[0] not in page
    for chosen in ('value="client-a" selected', f'value="{dataset_id}" selected', 'value="7" selected'):
        assert chosen in page
    assert "1–1 of 1 jobs" in words(page)
    assert four[3] in browser.part("/training?status=ended")
    assert "1–2 of 4 jobs" in words(browser.get("/training?size=2"))
    for wrong in ("status=lost", "dataset=x", "period=12", "since=soon", "archived=maybe", "preset=wild", "sort=x"):
        answer = browser.client.get(f"/training?{wrong}")
        assert answer.status_code == 400, wrong
        assert "This list cannot be shown" in answer.text


def test_ticked_jobs_are_acted_on_after_a_question_where_it_stops_work(
    browser: PageClient, quiet: Live, trainer_owner: Member, four: list[str]
) -> None:
    send = {"ids": four[:2], "do": "cancel", "back": "/training?sort=name"}
    asked = browser.submit("/training", "/training/bulk", **send)
    assert "Cancel 2 jobs?" in words(asked.text)
    assert get(trainer_owner, four[0])["status"] == "queued", "not before it is confirmed"
    done = browser.submit("/training", "/training/bulk", **send, confirmed="yes", reason="testing")
    assert "Cancel: 2 jobs done" in words(done.text)
    assert 'href="/training?sort=name"' in done.text
    assert get(trainer_owner, four[1])["cancel_reason"] == "testing"
    done = browser.submit("/training", "/training/bulk", ids=four, do="archive", back="https://evil.example/")
    assert "2 jobs done, 2 not" in words(done.text)
    assert "evil.example" not in done.text
    assert "Undo" in words(done.text)
    none = browser.submit("/training", "/training/bulk", do="pause")
    assert none.status_code == 303
    led = browser.submit("/training", "/training/bulk", ids=four[:2], do="tag", compare="yes")
    assert led.headers["location"] == f"/training/compare?ids={four[0]}&ids={four[1]}"


def test_tags_and_notes_are_written_on_the_jobs_page(
    browser: PageClient, trainer_owner: Member, four: list[str]
) -> None:
    path = f"/training/{four[0]}"
    assert browser.submit(path, f"{path}/tags", tags="Client A, second try").status_code == 303
    assert browser.submit(path, f"{path}/notes", text="What <b>came</b> of it").status_code == 303
    page = browser.get(path)
    assert "client-a" in page
    assert "second-try" in page
    assert "What &lt;b&gt;came&lt;/b&gt; of it" in page
    browser.submit(path, f"{path}/tags", remove="client-a")
    assert get(trainer_owner, four[0])["tags"] == ["second-try"]
    assert "That did not work" in words(browser.get(browser.submit(path, f"{path}/tags", tags="!").headers["location"]))


# --- terminal -------------------------------------------------------------------------------------------------------


def test_the_terminal_filters_tags_and_acts_on_many(quiet: Live, trainer_owner: Member, four: list[str]) -> None:
    environment = os.environ | {"BRIGHTRUN_URL": quiet.url, "BRIGHTRUN_TOKEN": trainer_owner.token}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "brightrun", "jobs", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert run("tag", four[0], "--add", "Client A").stdout.strip() == "client-a"
    answer = run("list", "--status", "queued", "--tag", "client-a", "--since", "2020-01-01", "--json")
    assert [job["name"] for job in json.loads(answer.stdout)["items"]] == ["a"], answer.stderr
    assert "wrote" in run("note", four[0], "what I wrote").stdout
    many = run("bulk", "cancel", four[0], four[1], "--reason", "testing", "--json")
    assert (many.returncode, json.loads(many.stdout)["done"]) == (0, 2)
    assert run("bulk", "pause", four[0], four[2]).returncode == 1, "one of them has ended"
    assert "priority" in run("queue").stdout
    assert run("priority", four[3], "high", "--reason", "The client waits").returncode == 0


# --- size -----------------------------------------------------------------------------------------------------------


def test_a_list_of_ten_thousand_jobs_is_read_by_index(quiet: Live, trainer_owner: Member, four: list[str]) -> None:
    """The first page must not read, nor sort, all rows of the workspace."""

    async def fill(database: Database) -> None:
        async with database.transaction(workspace_id=trainer_owner.workspace_id) as session:
            columns = ", ".join(column.name for column in TrainingJob.__table__.columns if column.name != "id")
            ended = columns.replace("status", "'failed'", 1).replace("error_code, error_message", "'bug', 'x'")
            await session.execute(
                text(
                    f"insert into training_jobs (id, {columns}) select gen_random_uuid(), {ended}"
                    " from training_jobs, generate_series(1, 2500)"
                )
            )

    async def explained(database: Database) -> str:
        async with database.transaction(workspace_id=trainer_owner.workspace_id) as session:
            seen: list[str] = []
            connection = await session.connection()
            event.listen(connection.sync_connection, "before_cursor_execute", lambda *_: seen.append(_[2]), named=False)
            await repository.list_page(
                session, page=Page(limit=20), order=TrainingJob.created_at.desc(), wanted=JobFilter()
            )
            query = next(sql for sql in seen if "OFFSET" in sql)
            query = query.replace("%(param_1)s::INTEGER", "20").replace("%(param_2)s::INTEGER", "0")
            return "\n".join(line for (line,) in await session.execute(text(f"explain {query}")))

    quiet.run(fill)
    with psycopg.connect(libpq(quiet.urls.owner), autocommit=True) as connection:
        connection.execute("analyze training_jobs")
    plan = quiet.run(explained)
    assert "training_jobs_shown_idx" in plan, plan
    assert "Sort" not in plan, plan
