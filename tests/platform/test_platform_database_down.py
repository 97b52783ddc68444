"""What the server says while its database is away, and that it needs no restart when the database is back."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest
from platform_steps import announce, confirm, data, dataset, records, upload, validated
from prometheus_client.parser import text_string_to_metric_families

from brightrun.db.roles import DatabaseUrls
from live import Live, Member, live_server
from tcp_proxy import TcpProxy, tcp_proxy
from waiting import eventually


@dataclass
class Fragile:
    """A platform whose way to its database can be cut."""

    live: Live
    way: TcpProxy
    member: Member


@pytest.fixture
def fragile(live: Live, fresh_pg_urls: DatabaseUrls, tmp_path: Path) -> Iterator[Fragile]:
    real = fresh_pg_urls.app
    assert real.host is not None
    assert real.port is not None
    with tcp_proxy(real.host, real.port) as way:
        cut = replace(
            fresh_pg_urls,
            app=real.set(port=way.port),
            worker=fresh_pg_urls.worker.set(port=way.port),
        )
        settings = live.settings.model_copy(update={"data": tmp_path})
        with live_server(cut, settings, live.secret) as running:
            yield Fragile(running, way, running.new_workspace())
            way.restore()


def counted(client: httpx2.Client, route: str, status: str) -> float:
    """How many requests `/metrics` has counted."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "brightrun_http_requests_total"
        and (sample.labels["route"], sample.labels["status"]) == (route, status)
    )


def test_without_its_database_the_server_lives_says_so_and_recovers_by_itself(fragile: Fragile) -> None:
    client, stranger = fragile.member.client, fragile.live.client()
    assert stranger.get("/readyz").json() == {"status": "ready"}
    content = records()
    created = announce(client, len(content))
    fragile.way.cut()

    assert stranger.get("/healthz").json() == {"status": "ok"}, "the process itself is well: do not restart it"
    not_ready = stranger.get("/readyz")
    assert (not_ready.status_code, not_ready.json()["code"]) == (503, "unavailable")
    assert "database" in not_ready.json()["error"]
    for answer in (
        client.get("/api/datasets"),
        client.post("/api/datasets", json={"name": "n", "file_name": "f", "file_size": 3}),
        confirm(client, created["dataset"]["id"]),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
        assert "database" in answer.json()["error"]
        assert "psycopg" not in answer.text, "no text of a library reaches people"
    assert counted(stranger, "/api/datasets", "503") >= 2
    # Bytes do not need the database: an upload under way is not lost.
    assert httpx2.put(created["uploadUrl"], content=content).status_code == 200

    fragile.way.restore()
    eventually("ready again", lambda: stranger.get("/readyz").status_code == 200, within=20)
    assert data(client.get("/api/datasets"))["total"] == 1, "what failed left nothing"
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    assert validated(client, created["dataset"]["id"])["status"] == "ready", "the worker is back, too"


def test_a_page_without_a_database_is_a_page_that_says_so(fragile: Fragile) -> None:
    browser = fragile.live.client()
    browser.cookies.set("brightrun_session", "x" * 43)
    fragile.way.cut()
    answer = browser.get("/datasets")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "database" in answer.text
    assert browser.get("/signin").status_code in {200, 503}


def test_connections_cut_one_by_one_are_not_noticed(fragile: Fragile) -> None:
    for _ in range(5):
        fragile.way.cut()
        fragile.way.restore()
        assert fragile.member.client.get("/api/datasets").status_code == 200


@pytest.mark.slow
def test_a_database_that_says_nothing_is_not_ready_and_the_process_still_well(fragile: Fragile) -> None:
    stranger = fragile.live.client()
    assert stranger.get("/readyz").status_code == 200
    fragile.way.freeze()
    assert stranger.get("/healthz").status_code == 200
    not_ready = stranger.get("/readyz")
    assert (not_ready.status_code, not_ready.json()["code"]) == (503, "unavailable")
    fragile.way.restore()
    eventually("ready again", lambda: stranger.get("/readyz").status_code == 200, within=30)


def test_a_validation_cut_off_from_the_database_ends_when_it_is_back(fragile: Fragile) -> None:
    client = fragile.member.client
    assert upload(client, records())["status"] == "ready"
    content = records(60_000)
    created = announce(client, len(content))
    assert httpx2.put(created["uploadUrl"], content=content, timeout=60).is_success
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    path = created["dataset"]["id"]
    eventually("it has begun", lambda: dataset(client, path)["validated_bytes"] > 0)
    fragile.way.cut()
    assert fragile.live.client().get("/readyz").status_code == 503
    fragile.way.restore()
    found = validated(client, path, within=120)
    assert (found["status"], found["total_records"]) == ("ready", 60_000)
