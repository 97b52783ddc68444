"""What the chosen model makes of each row: refused, too long, how long; and that the second time costs nothing."""

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.model_tokenizers import load_tokenizer
from brightrun.formats.token_cache import TokenCache, file_sha256
from brightrun.validation import Report, validate
from brightrun.validation.model_checks import ModelCheck, WholeFileCheck
from brightrun.validation.model_view import Memory, ModelView

LONG = "the kiln and the clay and the river " * 12
PAIR: dict[str, Any] = {"conversation_id": "c", "system_prompt": "You are Ilse.", "current_user_input": "And now?"}
HISTORY = [{"role": ("user", "assistant")[i % 2], "content": f"{i}. {LONG}"} for i in range(4)]


@pytest.fixture(scope="module")
def tiny() -> ChatTokenizer:
    return load_tokenizer("tiny")


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def check(path: Path, tokenizer: ChatTokenizer, max_length: int | None = None) -> tuple[Report, ModelCheck]:
    model_check = ModelCheck(tokenizer, "tiny", max_length=max_length)
    report = validate(path, record_checks=[model_check], comparing_checks=[WholeFileCheck(model_check)])
    return report, model_check


def issues(report: Report, code: str) -> list[tuple[int, str]]:
    return [(issue.line, issue.message) for issue in report.issues if issue.code == code]


def test_a_row_that_the_template_refuses_is_named_with_the_templates_words_and_the_order(
    tiny: ChatTokenizer, tmp_path: Path
) -> None:
    good = turns(("user", "Clay?"), ("assistant", "Clay."))
    bad = turns(("user", "Clay?"), ("assistant", "Clay."), ("system", "Be kind."), ("assistant", "Yes."))
    report, model_check = check(write(tmp_path, good, bad, good, bad), tiny)
    refused = issues(report, "template_refused")
    assert [line for line, _ in refused] == [2, 4]
    assert "A system message can only be the first message, but message 3 is one." in refused[0][1]
    assert "Order of speakers: user, assistant, system, assistant, refused from message 3 (system) on." in refused[0][1]
    assert not report.training_ready
    assert "chat_template" in report.checks_run
    assert "truncation" in report.checks_skipped
    lengths = model_check.lengths()
    assert lengths is not None
    assert (lengths["records"], lengths["refused"]) == (2, 2)


def test_tool_calls_that_a_template_does_not_write_are_an_error(tmp_path: Path) -> None:
    from brightrun.formats import tokenizer_folder
    from brightrun.formats.base_models import BUILTIN

    plain = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = ChatTokenizer(tokenizer_folder.load(BUILTIN["tiny"]), name="plain", template=plain, now=None)
    call = {"id": "c1", "type": "function", "function": {"name": "oven", "arguments": "{}"}}
    row = turns(("user", "Hot?"))
    row["messages"] += [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "assistant", "content": "Yes."},
    ]
    report, _ = check(write(tmp_path, row), tokenizer)
    assert [line for line, _ in issues(report, "template_fault")] == [1]


def test_what_a_limit_takes_away_is_what_the_trainer_would_take(tiny: ChatTokenizer, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {**PAIR, "conversation_history": [], "target_response": "Now we wait."},
        {**PAIR, "conversation_history": HISTORY, "target_response": "Now we fire the kiln."},
        {**PAIR, "conversation_history": [], "target_response": LONG * 3},
        {**PAIR, "current_user_input": LONG * 3, "conversation_history": [], "target_response": "No."},
    )
    report, model_check = check(path, tiny, max_length=150)
    assert [line for line, _ in issues(report, "history_shortened")] == [2]
    assert [line for line, _ in issues(report, "truncated")] == [3]
    assert [line for line, _ in issues(report, "all_trained_tokens_cut")] == [4]
    assert "the oldest 4 messages would be left out" in issues(report, "history_shortened")[0][1]
    assert report.errors_total == 0
    assert report.training_ready
    lengths = model_check.lengths()
    assert lengths is not None
    assert (lengths["over"], lengths["shortened"], lengths["cut"], lengths["unused"]) == (3, 1, 1, 1)
    assert lengths["trained_lost"] > 100
    assert lengths["max_length"] == 150


def test_a_limit_that_leaves_nothing_in_the_whole_file_is_an_error(tiny: ChatTokenizer, tmp_path: Path) -> None:
    row = {**PAIR, "current_user_input": LONG, "conversation_history": [], "target_response": "No."}
    report, _ = check(write(tmp_path, row, {**row, "conversation_id": "d"}), tiny, max_length=20)
    assert report.by_code["nothing_to_train"] == 1
    assert not report.training_ready


def test_lengths_are_those_of_the_rendered_chats(tiny: ChatTokenizer, tmp_path: Path) -> None:
    rows = [turns(("user", "Clay?"), ("assistant", "clay " * n)) for n in range(1, 101)]
    _, model_check = check(write(tmp_path, *rows), tiny)
    wanted = sorted(len(tiny.encode(record).input_ids) for record in _records(tmp_path / "rows.jsonl"))
    lengths = model_check.lengths()
    assert lengths is not None
    assert (lengths["records"], lengths["total"]) == (100, sum(wanted))
    assert (lengths["min"], lengths["max"]) == (wanted[0], wanted[-1])
    assert (lengths["p50"], lengths["p90"], lengths["p95"], lengths["p99"]) == (
        wanted[49], wanted[89], wanted[94], wanted[98],
    )  # fmt: skip
    assert (lengths["source"], lengths["method"], lengths["method_reason"]) == ("exact:tiny", "words", "")
    bars = lengths["histogram"]
    assert sum(bar["records"] for bar in bars) == 100
    assert len(bars) <= 24
    assert all(bar["records"] == sum(bar["from"] <= n < bar["to"] for n in wanted) for bar in bars)
    assert all(earlier["to"] == later["from"] for earlier, later in itertools.pairwise(bars))


def _records(path: Path) -> list[Any]:
    from brightrun.formats.reader import read_records
    from brightrun.formats.records import Record

    return [item for item in read_records(path) if isinstance(item, Record)]


def test_both_answers_of_a_pair_count(tiny: ChatTokenizer, tmp_path: Path) -> None:
    row = {"prompt": "Clay?", "chosen": "Stoneware.", "rejected": LONG}
    report, model_check = check(write(tmp_path, row), tiny, max_length=60)
    assert [line for line, _ in issues(report, "truncated")] == [1]
    lengths = model_check.lengths()
    assert lengths is not None
    assert lengths["max"] == len(tiny.encode_preference(_records(tmp_path / "rows.jsonl")[0]).rejected.labels)


def test_an_end_of_turn_that_is_not_trained_is_said_once(tmp_path: Path) -> None:
    from brightrun.formats import tokenizer_folder
    from brightrun.formats.base_models import BUILTIN

    bare = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer = ChatTokenizer(tokenizer_folder.load(BUILTIN["tiny"]), name="bare", template=bare, now=None)
    row = turns(("user", "Clay?"), ("assistant", "Clay."))
    report, _ = check(write(tmp_path, row, row), tokenizer)
    assert [line for line, _ in issues(report, "end_of_turn_not_trained")] == [1]


def seen(path: Path, tokenizer: ChatTokenizer, cache: TokenCache, **options: Any) -> tuple[Report, bool]:
    view = ModelView(tokenizer, "tiny", memory=Memory(cache, file_sha256(path), "t"), **options)
    report = validate(path, **view.arguments())
    view.complete(report)
    return report, view.remembered


def test_the_second_time_nothing_is_counted_and_the_report_is_the_same(tiny: ChatTokenizer, tmp_path: Path) -> None:
    bad = turns(("user", "Clay?"), ("assistant", "Clay."), ("system", "Be kind."), ("assistant", "Yes."))
    path = write(tmp_path, turns(("user", "Clay?"), ("assistant", LONG)), bad)
    cache = TokenCache(tmp_path / "cache")
    for options in ({}, {"max_length": 40}, {"lengths_only": True}):
        first, remembered = seen(path, tiny, cache, **options)
        assert not remembered
        second, remembered = seen(path, tiny, cache, **options)
        assert remembered
        assert second == first
        assert first.tokens == sum(tiny.count(m.content) for r in _records(path) for m in r.messages)
        assert first.tokens_source == "exact:tiny"
    path.write_text(path.read_text() + "\n")
    assert seen(path, tiny, cache)[1] is False, "other bytes are another file"


def test_lengths_alone_say_nothing_about_rows(tiny: ChatTokenizer, tmp_path: Path) -> None:
    bad = turns(("user", "Clay?"), ("assistant", "Clay."), ("system", "Be kind."), ("assistant", "Yes."))
    good = turns(("user", "Clay?"), ("assistant", "Clay."))
    report, _ = seen(write(tmp_path, bad, good), tiny, TokenCache(tmp_path / "cache"), lengths_only=True)
    assert "template_refused" not in report.by_code
    assert report.lengths is not None
    assert report.lengths["refused"] == 1
    assert "chat_template" in report.checks_skipped


def test_the_cache_is_bounded_and_survives_damage_and_other_processes(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path / "cache", max_entries=5)
    for n in range(20):
        cache.put({"n": n}, "key", n)
    assert len(list((tmp_path / "cache").iterdir())) <= 5
    assert cache.get("key", 19) == {"n": 19}
    assert cache.get("key", 0) is None
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b'{"half')
    assert cache.get("key", 19) is None
    threads = [
        threading.Thread(target=lambda: [cache.put({"x": "y" * 5_000}, "same") for _ in range(50)]) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert cache.get("same") in (None, {"x": "y" * 5_000})
    assert cache.get("same") == {"x": "y" * 5_000}
    blocked = TokenCache(tmp_path / "cache" / "rows.jsonl" / "deeper")
    (tmp_path / "cache" / "rows.jsonl").write_text("a file")
    blocked.put({}, "k")
    assert blocked.get("k") is None
