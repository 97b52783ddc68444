"""events.jsonl holds whole lines, numbered without gaps, whatever happened to the writer."""

import json
from pathlib import Path

import pytest

from brightrun.trainer.events import EVENTS_FILE, EventLog, is_finished


def lines(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / EVENTS_FILE).read_text().splitlines()]


def test_numbers_go_on_after_reopening(tmp_path: Path) -> None:
    for _ in range(3):
        log = EventLog(tmp_path)
        log.emit("stage", stage="training", fraction=0.5)
        log.close()
    assert [event["seq"] for event in lines(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "torn",
    [b'{"seq": 3, "ty', b"\0" * 5000, b"\n", b'{"seq": 3', b"garbage\n", b'{"seq": 3, "type": "x"}', b"x" * 200_000],
    ids=["half line", "zero bytes", "blank line", "cut number", "no event", "whole but without its end", "long"],
)
def test_what_a_crash_left_after_the_last_whole_event_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    log = EventLog(tmp_path)
    log.emit("stage", stage="training", fraction=0.1)
    log.emit("metric", step=1)
    log.close()
    with (tmp_path / EVENTS_FILE).open("ab") as stream:
        stream.write(torn)
    log = EventLog(tmp_path)
    assert log.repaired_bytes == len(torn)
    log.emit("metric", step=2)
    log.close()
    assert [event["seq"] for event in lines(tmp_path)] == [1, 2, 3]


def test_a_log_torn_in_its_first_line_starts_again(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_bytes(b'{"seq": 1, "ti')
    log = EventLog(tmp_path)
    log.emit("metric", step=1)
    log.close()
    assert [event["seq"] for event in lines(tmp_path)] == [1]


def test_a_long_last_event_is_found_whole(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.emit("sample", answer="x" * 300_000)
    log.emit("sample", answer="y" * 300_000)
    log.close()
    reopened = EventLog(tmp_path)
    assert reopened.repaired_bytes == 0
    assert reopened.emit("metric", step=1)["seq"] == 3
    reopened.close()


def test_numbers_that_json_cannot_say_become_null(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.emit("metric", loss=float("nan"), more={"norm": float("inf"), "list": [float("-inf"), 1.0]})
    log.close()
    (event,) = lines(tmp_path)
    assert event["loss"] is None
    assert event["more"] == {"norm": None, "list": [None, 1.0]}


def test_lone_surrogates_from_a_training_file_do_not_stop_the_log(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.emit("sample", answer="half \ud83d of a character")
    log.close()
    assert lines(tmp_path)[0]["seq"] == 1


def test_finished_means_that_the_last_event_is_done(tmp_path: Path) -> None:
    assert not is_finished(tmp_path)
    log = EventLog(tmp_path)
    log.emit("metric", step=1)
    assert not is_finished(tmp_path)
    log.emit("done", steps=1)
    log.close()
    assert is_finished(tmp_path)
