"""Readiness, coverage and lengths: pure numbers about what a file says of itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from brightrun.cli.validate import main
from brightrun.formats.records import Message, Record, Scaffold
from brightrun.validation import validate
from brightrun.validation.readiness import lengths_of, readiness
from brightrun.validation.survey import MOST_NAMES, MOST_TOPICS, Survey


def record(conversation: str, index: int = 0, **scaffold: Any) -> Record:
    messages = [Message("user", "Hello"), Message("assistant", "Hello!", trained=True)]
    return Record(conversation, index, index + 1, 0, messages, scaffold=Scaffold(**scaffold) if scaffold else None)


def pair(conversation: str, number: int, persona: str | None, arc: str, topic: str, score: float) -> dict[str, Any]:
    return {
        "conversation_id": conversation,
        "system_prompt": "You are kind.",
        "conversation_history": [],
        "current_user_input": f"Question {number} of {conversation}?",
        "target_response": f"Answer {number} of {conversation}.",
        "conversation_metadata": {"client_persona": persona, "emotional_arc": arc, "training_topic": topic},
        "training_metadata": {"quality_score": score},
    }


def test_conversations_are_counted_once_by_persona_arc_and_topic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [
        pair("a", 1, "planner", "calm", "loans", 4.0),
        pair("a", 2, "planner", "calm", "loans", 2.0),
        pair("b", 1, "avoider", "calm", "loans", 3.0),
        pair("a", 3, "planner", "calm", "loans", 3.0),
        pair("c", 1, "planner", "storm", "wills", 3.0),
        pair("d", 1, None, "storm", "wills", 3.0),
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = validate(file)
    assert report.coverage == {
        "conversations": 4,
        "personas": [{"name": "planner", "conversations": 2}, {"name": "avoider", "conversations": 1}],
        "arcs": [{"name": "calm", "conversations": 2}, {"name": "storm", "conversations": 2}],
        "grid": [
            {"persona": "planner", "arc": "calm", "conversations": 1},
            {"persona": "planner", "arc": "storm", "conversations": 1},
            {"persona": "avoider", "arc": "calm", "conversations": 1},
            {"persona": "avoider", "arc": "storm", "conversations": 0},
        ],
        "empty": 1,
        "topics": [{"name": "loans", "conversations": 2}, {"name": "wills", "conversations": 2}],
        "without": {"persona": 1, "arc": 0, "topic": 0},
        "beyond": {"persona": 0, "arc": 0, "topic": 0},
    }
    advice = {entry["name"]: entry for entry in report.readiness["advice"]}
    assert (advice["conversations"]["have"], advice["conversations"]["missing"]) == (4, 46)
    assert (advice["training_pairs"]["have"], advice["training_pairs"]["missing"]) == (6, 494)
    assert (advice["quality"]["have"], advice["quality"]["n"], advice["quality"]["met"]) == (3.0, 6, True)
    assert validate(file, checks="structure").coverage is None
    main([str(file)])
    printed = capsys.readouterr().out
    assert "4 conversations; 50 are advised: 46 missing" in printed
    assert "no conversation of avoider × storm" in printed


def test_a_file_that_says_nothing_of_its_scaffolding_has_no_coverage() -> None:
    survey = Survey()
    for number in range(10):
        list(survey.look(record(f"c{number}", number)))
    assert survey.coverage() is None
    assert survey.quality == (None, 0)


def test_names_without_end_are_counted_together() -> None:
    survey = Survey()
    for number in range(700):
        list(
            survey.look(record(f"c{number}", number, persona=f"p{number}", emotional_arc="a", topic=f"t{number}" * 99))
        )
    coverage = survey.coverage()
    assert coverage is not None
    assert len(coverage["personas"]) == len(coverage["grid"]) == MOST_NAMES
    assert coverage["beyond"] == {"persona": 700 - MOST_NAMES, "arc": 0, "topic": 700 - MOST_TOPICS}
    assert coverage["without"] == {"persona": 0, "arc": 0, "topic": 0}
    assert max(len(topic["name"]) for topic in coverage["topics"]) == 200


def test_errors_block_and_thresholds_only_advise() -> None:
    fine = {"conversations": 50, "training_pairs": 500, "quality": 3.0, "scored": 9}
    assert readiness(errors=0, **fine)["ready"]
    assert all(advice["met"] for advice in readiness(errors=0, **fine)["advice"])
    blocked = readiness(errors=1, **fine)
    assert (blocked["ready"], blocked["blocked_by"]) == (False, "errors")
    few = readiness(errors=0, conversations=1, training_pairs=2, quality=None, scored=0)
    assert few["ready"]
    assert [advice["missing"] for advice in few["advice"]] == [49, 498, None]
    assert (
        readiness(errors=0, conversations=1, training_pairs=0, quality=None, scored=0)["blocked_by"]
        == "nothing_to_train"
    )


def test_every_record_is_in_one_bar_of_the_histogram() -> None:
    lengths = lengths_of([3, 30, 31, 900, 900, 4_000], "exact:tiny", 1)
    assert lengths is not None
    assert sum(bar["records"] for bar in lengths["histogram"]) == lengths["records"] == 6
    assert len(lengths["histogram"]) <= 24
    assert (lengths["min"], lengths["p50"], lengths["max"], lengths["total"]) == (3, 31, 4_000, 5_864)
    for low, high in zip(lengths["histogram"], lengths["histogram"][1:], strict=False):
        assert low["to"] == high["from"]
    one = lengths_of([7], "estimate:words×1.3", 1.3)
    assert one is not None
    assert one["histogram"] == [{"from": 9, "to": 10, "records": 1}]
    assert lengths_of([], "none", 1) is None


def test_lengths_are_there_when_tokens_were_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    chats = [
        {"messages": [{"role": "user", "content": "one two " * n}, {"role": "assistant", "content": "three."}]}
        for n in range(1, 51)
    ]
    file.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    assert validate(file).lengths is None
    estimated = validate(file, estimate_tokens=True)
    assert estimated.lengths is not None
    assert estimated.lengths["source"] == estimated.tokens_source
    assert estimated.lengths["records"] == 50
    assert estimated.lengths["total"] == estimated.tokens
