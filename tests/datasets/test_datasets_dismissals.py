"""Dismissed warnings: who, when and why are kept; they survive the next check, and come back when taken back."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from dataset_steps import chat_file, confirm, data, lines_of, upload_and_validate, validated

from brightrun.accounts.roles import Role
from brightrun.db.roles import DatabaseUrls, libpq
from live import Live, Member

BAD = {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Fine."}]}


@pytest.fixture
def doubled(owner: Member) -> dict[str, Any]:
    """Ten records, the first three once more, and an error at the end: 3 warnings on lines 11 to 13."""
    lines = chat_file(10).splitlines(keepends=True)
    return upload_and_validate(owner.client, b"".join((*lines, *lines[:3])) + lines_of(BAD))


def issues(owner: Member, dataset: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    wanted = {"code": "duplicate_record", "limit": 100} | wanted
    wanted = {name: value for name, value in wanted.items() if value is not None}
    answer = data(owner.client.get(f"/api/datasets/{dataset['id']}/issues", params=wanted))
    found: list[dict[str, Any]] = answer["items"]
    assert answer["total"] == len(found)
    return found


def dismiss(owner: Member, dataset: dict[str, Any], **body: Any) -> Any:
    body = {"code": "duplicate_record", "reason": "It is meant to be learned twice."} | body
    return owner.client.post(f"/api/datasets/{dataset['id']}/dismissals", json=body)


def test_one_place_is_dismissed_with_who_when_and_why_and_taken_back(owner: Member, doubled: dict[str, Any]) -> None:
    [made] = data(dismiss(owner, doubled, line=12))["dismissals"]
    assert (made["code"], made["line"], made["reason"]) == ("duplicate_record", 12, "It is meant to be learned twice.")
    assert made["by"] == "Test owner"
    assert made["at"]
    shown = {issue["line"]: issue["dismissed"] for issue in issues(owner, doubled)}
    assert shown == {11: None, 12: made, 13: None}
    assert [issue["line"] for issue in issues(owner, doubled, dismissed=False)] == [11, 13]
    assert [issue["line"] for issue in issues(owner, doubled, dismissed=True)] == [12]
    assert data(dismiss(owner, doubled, line=12, reason="Again"))["dismissals"] == [made], "the first reason stays"
    at = f"/api/datasets/{doubled['id']}/dismissals"
    assert data(owner.client.get(at))["dismissals"] == [made]
    assert data(owner.client.delete(f"{at}/{made['id']}"))["dismissal"] == made
    assert owner.client.delete(f"{at}/{made['id']}").status_code == 404
    assert issues(owner, doubled, dismissed=True) == []


def test_all_of_a_kind_are_dismissed_at_once(owner: Member, doubled: dict[str, Any]) -> None:
    data(dismiss(owner, doubled))
    assert len(issues(owner, doubled, dismissed=True)) == 3
    assert issues(owner, doubled, dismissed=False) == []


def test_a_dismissal_survives_the_next_check_and_silences_nothing_else(
    owner: Member, doubled: dict[str, Any], pg_urls: DatabaseUrls
) -> None:
    data(dismiss(owner, doubled, line=11))
    data(dismiss(owner, doubled, line=13))
    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:
        # As if another version of the check had found something else there.
        connection.execute(
            "update dataset_dismissals set fingerprint = 'x' where line = 13 and dataset_id = %s", [doubled["id"]]
        )
    confirm(owner.client, doubled["id"])
    again = validated(owner.client, doubled["id"])
    assert again["validation_attempt"] == doubled["validation_attempt"] + 1
    assert [issue["line"] for issue in issues(owner, again, dismissed=True)] == [11]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"code": "empty_text"}, 404, "no_such_finding"),
        ({"line": 3}, 404, "no_such_finding"),
        ({"line": 11, "path": "messages[0]"}, 404, "no_such_finding"),
        ({"reason": "  "}, 400, "validation_error"),
        ({"line": 0}, 400, "validation_error"),
    ],
)
def test_what_is_not_there_or_has_no_reason_is_not_dismissed(
    owner: Member, doubled: dict[str, Any], body: dict[str, Any], status: int, code: str
) -> None:
    answer = dismiss(owner, doubled, **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_errors_cannot_be_dismissed_and_block_as_before(owner: Member, doubled: dict[str, Any]) -> None:
    [error] = issues(owner, doubled, code=None, severity="error")
    for place in ({}, {"line": error["line"]}):
        answer = dismiss(owner, doubled, code=error["code"], **place)
        assert (answer.status_code, answer.json()["code"]) == (409, "errors_cannot_be_dismissed")
    assert not doubled["training_ready"]


def test_who_may_only_read_dismisses_nothing(live: Live, owner: Member, doubled: dict[str, Any]) -> None:
    viewer = live.new_member(owner.workspace_id, Role.VIEWER)
    assert dismiss(viewer, doubled, line=11).status_code == 403
    assert len(issues(viewer, doubled, dismissed=False)) == 3


@pytest.fixture
def audit(pg_urls: DatabaseUrls) -> Iterator[Any]:
    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:
        yield lambda dataset: connection.execute(
            "select action, details ->> 'reason' from audit_log where target_id = %s and action like '%%dismiss%%'"
            " order by created_at, id",
            [dataset["id"]],
        ).fetchall()


def test_both_are_in_the_audit_log(owner: Member, doubled: dict[str, Any], audit: Any) -> None:
    [made] = data(dismiss(owner, doubled, line=11))["dismissals"]
    owner.client.delete(f"/api/datasets/{doubled['id']}/dismissals/{made['id']}")
    why = "It is meant to be learned twice."
    assert audit(doubled) == [("dataset.warning_dismissed", why), ("dataset.dismissal_taken_back", why)]


def test_a_long_list_knows_its_dismissals_too(owner: Member) -> None:
    lines = chat_file(20).splitlines(keepends=True)
    dataset = upload_and_validate(
        owner.client, b"not json\n" * 1_200 + b"".join(lines + lines), format="openai_messages"
    )
    data(dismiss(owner, dataset, line=1_225))
    wanted = [line for line in range(1_221, 1_241) if line != 1_225]
    assert [issue["line"] for issue in issues(owner, dataset, dismissed=False)] == wanted
    assert [issue["line"] for issue in issues(owner, dataset, dismissed=True)] == [1_225]
    assert [issue["line"] for issue in issues(owner, dataset, code=None, dismissed=True)] == [1_225]
    everything = owner.client.get(f"/api/datasets/{dataset['id']}/issues", params={"dismissed": False})
    assert data(everything)["total"] == 1_200 + 19
    data(dismiss(owner, dataset))
    assert issues(owner, dataset, dismissed=False) == []
    assert len(issues(owner, dataset, dismissed=True)) == 20


def test_a_mended_version_takes_over_what_it_still_has(live: Live, owner: Member) -> None:
    lines = chat_file(6).splitlines(keepends=True)
    weight = {"role": "assistant", "content": "The first firing.", "weight": True}
    bad = {"messages": [{"role": "user", "content": "What is bisque?"}, weight]}
    dataset = upload_and_validate(owner.client, lines_of(bad) + b"".join((*lines, *lines[:2])))
    for line in (8, 9):
        data(dismiss(owner, dataset, line=line))
    data(dismiss(owner, dataset, line=8))
    answer = owner.client.post(f"/api/datasets/{dataset['id']}/repair", json={"codes": ["invalid_weight"]})
    version = validated(owner.client, data(answer)["dataset"]["id"])
    assert version["status"] == "ready"
    assert [issue["line"] for issue in issues(owner, version, dismissed=True)] == [8, 9]
    made = data(owner.client.get(f"/api/datasets/{version['id']}/dismissals"))["dismissals"]
    assert {row["reason"] for row in made} == {"It is meant to be learned twice."}
    data(owner.client.delete(f"/api/datasets/{version['id']}/dismissals/{made[0]['id']}"))
    assert len(issues(owner, dataset, dismissed=True)) == 2, "the version before keeps its own"


def test_mending_everything_leaves_what_was_dismissed_as_the_preview_shows(
    owner: Member, doubled: dict[str, Any]
) -> None:
    data(dismiss(owner, doubled, line=12))
    at = f"/api/datasets/{doubled['id']}"
    shown = data(owner.client.post(f"{at}/repair/preview", json={}))
    assert [(found["line"], found["code"]) for found in shown["items"]] == [
        (11, "duplicate_record"),
        (13, "duplicate_record"),
    ]
    assert "left as it is (1 finding)" in owner.client.get(f"/datasets/{doubled['id']}/mend").text
    version = validated(owner.client, data(owner.client.post(f"{at}/repair", json={}))["dataset"]["id"])
    assert version["repair_counts"] == {"duplicate_record": 2}
    # Line 11 is gone, so line 12 is the eleventh now; its dismissal went with it.
    assert [issue["line"] for issue in issues(owner, version)] == [11]
    assert [issue["line"] for issue in issues(owner, version, dismissed=True)] == [11]
    data(dismiss(owner, doubled))
    refused = owner.client.post(f"{at}/repair", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_mend")


def test_dismissals_below_removed_records_of_a_list_follow_them(owner: Member) -> None:
    rows = [{"instruction": f"What is number {n}?", "output": f"It is {n}, of course."} for n in range(6)]
    content = json.dumps([rows[0], rows[1], rows[1], rows[2], {**rows[3], "output": "See {{name}}."}, rows[4]]).encode()
    dataset = upload_and_validate(owner.client, content)
    data(dismiss(owner, dataset, code="unfilled_placeholder", line=5))
    made = owner.client.post(f"/api/datasets/{dataset['id']}/repair", json={"codes": ["duplicate_record"]})
    version = validated(owner.client, data(made)["dataset"]["id"])
    [left] = issues(owner, version, code="unfilled_placeholder", dismissed=True)
    assert (left["line"], left["path"]) == (4, "[3].output")


def test_a_kind_that_does_not_exist_is_refused_with_those_that_do(owner: Member, doubled: dict[str, Any]) -> None:
    answer = owner.client.get(f"/api/datasets/{doubled['id']}/issues", params={"code": "nope"})
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert "duplicate_record" in answer.json()["details"]["code"][0]
