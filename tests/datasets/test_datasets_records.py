"""One record of a stored file, found by its line in any layout, from little of the file."""

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from dataset_steps import chat_file, data, lines_of, upload_and_validate

from brightrun.datasets import places
from brightrun.datasets.places import Places
from brightrun.formats.reader import RecordReader
from live import Live, Member

PAIRS = [
    {"messages": [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": f"Answer {n}."}]}
    for n in range(40)
]


def record(client: httpx2.Client, dataset: dict[str, Any], line: int) -> dict[str, Any]:
    found: dict[str, Any] = data(client.get(f"/api/datasets/{dataset['id']}/records/{line}"))["record"]
    return found


def test_places_lead_to_every_line_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MARK_EVERY", 50)
    content = b"".join(b"x" * (n * 7 % 90) + b"\n" for n in range(200)) + b"last"
    starts = [0]
    for piece in content.split(b"\n")[:-1]:
        starts.append(starts[-1] + len(piece) + 1)
    for size in (1, 17, 64, 10_000):
        noted = Places()
        for start in range(0, len(content), size):
            noted.pass_over(content[start : start + size])
        dumped = noted.dump()
        for line in range(1, 202):
            found = places.find(dumped, line)
            assert found is not None
            skip, offset = found
            for _ in range(skip):
                offset = content.index(b"\n", offset) + 1
            assert offset == starts[line - 1], (size, line)


def test_a_record_comes_with_its_text_its_chat_and_its_findings(owner: Member) -> None:
    bad = {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Fine."}]}
    dataset = upload_and_validate(
        owner.client, lines_of(PAIRS[0], "", bad, PAIRS[1], "{broken"), format="openai_messages"
    )
    first = record(owner.client, dataset, 1)
    assert json.loads(first["raw"]) == PAIRS[0]
    assert (first["byte_offset"], first["issues_total"]) == (0, 0)
    [chat] = first["chats"]
    assert [(message["role"], message["content"]) for message in chat["messages"]] == [
        ("user", "Question 0?"),
        ("assistant", "Answer 0."),
    ]
    assert chat["messages"][1]["trained"] is True
    faulty = record(owner.client, dataset, 3)
    assert json.loads(faulty["raw"]) == bad
    assert faulty["chats"] == []
    assert [issue["path"] for issue in faulty["issues"]] == ["messages[0].content"]
    assert faulty["byte_offset"] == faulty["issues"][0]["byte_offset"]
    broken = record(owner.client, dataset, 5)
    assert (broken["raw"], broken["chats"]) == ("{broken", [])
    for line in (2, 6, 10**9):
        answer = owner.client.get(f"/api/datasets/{dataset['id']}/records/{line}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_record"), line
    assert owner.client.get(f"/api/datasets/{dataset['id']}/records/0").status_code == 404


def test_every_layout_and_line_end_leads_to_the_same_records(owner: Member) -> None:
    array = json.dumps(PAIRS, indent=1).encode()
    crlf = b"\xef\xbb\xbf" + b"".join(json.dumps(pair).encode() + b"\r\n" for pair in PAIRS)
    for content in (lines_of(*PAIRS), array, crlf):
        dataset = upload_and_validate(owner.client, content)
        assert dataset["status"] == "ready"
        for line in (1, 2, 23, 40):
            found = record(owner.client, dataset, line)
            assert json.loads(found["raw"]) == PAIRS[line - 1]
            assert len(found["chats"]) == 1
            assert content[found["byte_offset"] :].startswith(found["raw"].encode())


def test_pairs_of_a_full_v4_file_are_found_by_their_number(owner: Member, tmp_path: Path) -> None:
    def pair(n: int, answer: str | None) -> dict[str, Any]:
        return {
            "id": f"p{n}", "conversation_id": "c", "turn_number": 2, "system_prompt": "S", "conversation_history": [],
            "current_user_input": f"Question {n}", "target_response": answer,
        }  # fmt: skip

    conversations = [
        {
            "conversation_metadata": {"conversation_id": f"c{c}"},
            "training_pairs": [pair(4 * c, None), pair(4 * c + 1, "A")],
        }
        for c in range(3)
    ]
    full = {
        "training_file_metadata": {"total_training_pairs": 3, "total_conversations": 3},
        "consultant_profile": {},
        "conversations": conversations,
    }
    content = json.dumps(full).encode()
    path = tmp_path / "full.json"
    path.write_bytes(content)
    numbers = [reading.line for reading in RecordReader(path).readings() if reading.is_record]
    dataset = upload_and_validate(owner.client, content, file_name="full.json")
    assert dataset["format"] == "brightrun_lora_v4"
    assert numbers == [1, 2, 3, 4, 5, 6]
    for line in numbers:
        found = record(owner.client, dataset, line)
        assert json.loads(found["raw"]) == conversations[(line - 1) // 2]["training_pairs"][(line - 1) % 2]
        assert len(found["chats"]) == (line + 1) % 2, "a pair without a target has no chat"


def test_a_line_deep_in_a_large_file_is_answered_from_its_neighbourhood(live: Live, owner: Member) -> None:
    content = chat_file(40_000)
    dataset = upload_and_validate(owner.client, content)
    started = time.perf_counter()
    found = record(owner.client, dataset, 39_000)
    assert json.loads(found["raw"])["messages"][0]["content"].startswith("How long does kiln 38999 cool?")
    assert time.perf_counter() - started < 2, "not a promise, only far from reading it all"
    for file in (live.settings.data / "objects").rglob("*.places"):
        file.unlink()
    assert record(owner.client, dataset, 39_000) == found, "files of the first release have no places"


def test_what_was_not_read_has_no_records(owner: Member) -> None:
    dataset = upload_and_validate(owner.client, b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, file_name="x.jsonl")
    answer = owner.client.get(f"/api/datasets/{dataset['id']}/records/1")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_records")
