"""The rules of supervision that need no process: progress, verdicts, tails, the catalogue, what a trainer is told."""

import itertools
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_steps import adviser_file

from brightrun.errors import ConfigurationError
from brightrun.formats import hyperparameters
from brightrun.formats.run import BaseModelRef, DataFile, RunConfig, Split, read_run, write_run
from brightrun.formats.run_directory import prepare_run
from brightrun.settings import Settings
from brightrun.training.catalogue import SHIPPED, load_catalogue
from brightrun.training.executors.local import clean_environment
from brightrun.training.supervisor.identity import is_dead, machine_id, new_owner
from brightrun.training.supervisor.memory_ladder import step_down
from brightrun.training.supervisor.outcomes import Kind, judge
from brightrun.training.supervisor.progress import WEIGHTS, Pace, overall
from brightrun.training.supervisor.tail import last_event, log_tail, parse_events, read_lines
from brightrun.training.supervisor.watchdogs import StallWatch, disk_shortage, memory_kills
from brightrun.training.tables import JobStage
from brightrun.training.views import attempt_cost

fraction = st.floats(-0.5, 1.5, allow_nan=False)


# --- progress -----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(list(JobStage)), fraction), max_size=50))
def test_progress_never_goes_back_whatever_a_trainer_says(told: list[tuple[JobStage, float]]) -> None:
    shown = Decimal(0)
    for stage, share in told:
        after = max(shown, overall(stage, share))
        assert shown <= after <= 99
        shown = after


@given(fraction, fraction)
def test_progress_grows_with_the_fraction_and_with_the_stage(first: float, second: float) -> None:
    low, high = sorted((first, second))
    stages = list(WEIGHTS)
    for stage, following in itertools.pairwise(stages):
        assert overall(stage, low) <= overall(stage, high) <= overall(following, 0)
    assert sum(WEIGHTS.values()) == 100


def test_the_rate_is_measured_over_the_last_steps_and_starts_anew_after_a_resume() -> None:
    pace, start = Pace(), datetime(2030, 1, 1, tzinfo=UTC)
    for step in range(1, 11):
        pace.saw(step, start + timedelta(seconds=2 * step))
    assert pace.seconds_per_step == pytest.approx(2.0)
    end = pace.end(110)
    assert end is not None
    assert (end - start).total_seconds() == pytest.approx(20 + 200 + 220 * 5 / 85)
    pace.saw(5, start + timedelta(seconds=100))
    assert pace.seconds_per_step is None, "a resumed run has not shown its rate yet"


# --- verdicts -----------------------------------------------------------------------------------------------------


def failed(exit_code: int, code: str) -> dict[str, Any]:
    return {"seq": 9, "type": "failed", "exit_code": exit_code, "code": code, "message": "It says why.", "advice": "Do"}


@pytest.mark.parametrize(
    ("exit_code", "last", "kind", "code"),
    [
        (0, {"type": "done"}, Kind.DONE, "done"),
        (None, {"type": "done"}, Kind.DONE, "done"),
        (-9, {"type": "done"}, Kind.DONE, "done"),
        (0, None, Kind.OWN_FAILURE, "bug"),
        (64, failed(64, "base_model_changed"), Kind.FINAL, "base_model_changed"),
        (64, None, Kind.LOCKED, "locked"),
        (65, failed(65, "bad_row"), Kind.FINAL, "data"),
        (None, failed(65, "bad_row"), Kind.FINAL, "data"),
        (70, failed(70, "disk_full"), Kind.OWN_FAILURE, "disk_full"),
        (75, {"type": "warning", "exit_code": 75, "code": "preempted", "message": "x"}, Kind.INTERRUPTED, "preempted"),
        (76, failed(76, "out_of_memory"), Kind.OUT_OF_MEMORY, "out_of_memory"),
        (77, failed(77, "budget"), Kind.FINAL, "budget"),
        (78, failed(78, "diverged"), Kind.FINAL, "diverged"),
        (-signal.SIGKILL, None, Kind.INTERRUPTED, "killed"),
        (-signal.SIGTERM, None, Kind.INTERRUPTED, "killed"),
        (-signal.SIGSEGV, None, Kind.OWN_FAILURE, "crashed"),
        (-signal.SIGABRT, None, Kind.OWN_FAILURE, "crashed"),
        (1, None, Kind.OWN_FAILURE, "bug"),
        (None, None, Kind.INTERRUPTED, "vanished"),
    ],
)
def test_every_way_a_trainer_ends_has_its_verdict(
    exit_code: int | None, last: dict[str, Any] | None, kind: Kind, code: str
) -> None:
    verdict = judge(exit_code, last)
    assert (verdict.kind, verdict.code) == (kind, code)
    assert verdict.message


@pytest.mark.parametrize("exit_code", [-signal.SIGKILL, None])
def test_a_kill_for_memory_is_no_interruption_and_a_hang_is_named(exit_code: int | None) -> None:
    verdict = judge(exit_code, None, memory_kills=1)
    assert (verdict.kind, verdict.code) == (Kind.OUT_OF_MEMORY, "out_of_memory_host")
    assert judge(-signal.SIGTERM, None, memory_kills=1).kind is Kind.INTERRUPTED, "another process was meant"
    assert judge(exit_code, None, stalled=True).code == "stalled"
    assert judge(0, {"type": "done"}, stalled=True, memory_kills=1).kind is Kind.DONE


def test_silence_is_measured_from_the_last_beat_that_was_seen(tmp_path: Path) -> None:
    watch = StallWatch(tmp_path, limit_s=0.0)
    assert watch.stalled(), "it never beat"
    (tmp_path / "heartbeat.json").write_text("{}")
    os.utime(tmp_path / "heartbeat.json", (1, 1))
    assert watch.silent_s() == pytest.approx(0, abs=0.5), "a beat is new, whatever the clock says"
    patient = StallWatch(tmp_path, limit_s=300)
    assert not patient.stalled()


def test_a_disk_with_too_little_room_says_how_little(tmp_path: Path) -> None:
    assert disk_shortage(tmp_path, 0) is None
    assert str(tmp_path) in (disk_shortage(tmp_path, 10**18) or "")
    assert memory_kills() >= 0


# --- reading ------------------------------------------------------------------------------------------------------


def test_only_whole_lines_are_read_and_none_twice(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert read_lines(path, 0).lines == []
    path.write_bytes(b'{"seq": 1}\n{"seq": 2}\n{"se')
    first = read_lines(path, 0)
    assert [event["seq"] for event in parse_events(first.lines, after_seq=0, run_dir=tmp_path)] == [1, 2]
    path.write_bytes(b'{"seq": 1}\n{"seq": 2}\n{"seq": 3}\n\x00\x00\n')
    second = read_lines(path, first.offset)
    assert [event["seq"] for event in parse_events(second.lines, after_seq=2, run_dir=tmp_path)] == [3]
    path.write_bytes(b'{"seq": 1}\n{"seq": 2}\n')  # a resumed trainer cut off what was torn
    again = read_lines(path, second.offset)
    assert parse_events(again.lines, after_seq=3, run_dir=tmp_path) == [], "known numbers are not taken twice"
    assert last_event(tmp_path) == {"seq": 2}


def test_the_tail_of_a_log_is_evidence_people_can_read(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(100)) + b"bad \xff\x00 bytes\n")
    lines = log_tail(path).splitlines()
    assert len(lines) == 30
    assert lines[-1] == "bad \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} bytes"


# --- memory -------------------------------------------------------------------------------------------------------


def test_the_memory_ladder_halves_what_is_in_memory_and_nothing_that_is_learned(tmp_path: Path) -> None:
    values = hyperparameters.build("balanced", {"micro_batch_tokens": 256})
    write_run(
        RunConfig(
            run_id="r", created_at="2030-01-01T00:00:00+00:00", preset="balanced", hyperparameters=values,
            data=DataFile(file="data/x", sha256="0" * 64, size_bytes=1),
            split=Split(
                seed=0, fraction=0.1, heldout_ids=[], train_conversations=1, train_records=1, heldout_records=0
            ),
            base_model=BaseModelRef(name="tiny", kind="builtin"),
        ),
        tmp_path,
    )  # fmt: skip
    seen = []
    while step_down(tmp_path) is not None:
        now = read_run(tmp_path).hyperparameters
        assert now.batch_size == values.batch_size
        seen.append((now.micro_batch_tokens, now.activation_checkpointing))
    assert seen == [(128, False), (64, True)]


def told(run_dir: Path, largest: int, longest: int) -> None:
    (run_dir / "heartbeat.json").write_text(
        json.dumps({"largest_pass_tokens": largest, "longest_record_tokens": longest})
    )


def test_the_ladder_halves_what_a_pass_really_took_and_never_what_cannot_be_cut(tmp_path: Path) -> None:
    file = tmp_path / "turns.jsonl"
    file.write_bytes(adviser_file())
    prepare_run(file, tmp_path / "run", base_model="tiny-random")
    told(tmp_path / "run", largest=800, longest=100)
    lowered = step_down(tmp_path / "run")
    assert lowered is not None
    assert lowered[0] == "micro_batch_tokens lowered to 400", "4,096 was far above what the passes took"
    told(tmp_path / "run", largest=100, longest=100)
    lowered = step_down(tmp_path / "run")
    assert lowered is not None
    assert lowered[0] == "activation checkpointing turned on", "one record is not cut"
    assert step_down(tmp_path / "run") is None


# --- catalogue, environment, identity, money ----------------------------------------------------------------------


def test_an_edited_catalogue_counts_and_a_mistake_in_it_is_named(tmp_path: Path) -> None:
    own = tmp_path / "gpus.toml"
    settings = Settings(gpu_catalogue=own)
    own.write_text('[[gpu]]\nid = "shed"\nexecutor = "local"\nprice_per_gpu_hour_usd = "1.25"\nkind = "cpu"\n')
    assert load_catalogue(settings).get("shed").price_per_gpu_hour_usd == Decimal("1.25")
    assert load_catalogue(settings).default().id == "shed"
    for text, word in [
        ('[[gpu]]\nid = "shed"\nprice_per_gpu_hour_usd = "free"\n', "price_per_gpu_hour_usd"),
        ('[[gpu]]\nid = "shed"\nprize = "1"\n', "prize"),
        ("[[gpu]]\n", "id"),
        ("", "no [[gpu]]"),
        ("[[gpu\n", "cannot be read"),
    ]:
        own.write_text(text)
        with pytest.raises(ConfigurationError, match=word.replace("[", r"\[")):
            load_catalogue(settings)
    assert load_catalogue(Settings()).path == SHIPPED


def test_a_trainer_is_told_no_secret_and_nothing_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "DATABASE_URL": "postgresql://x:y@z/w", "BRIGHTRUN_SECRET_KEY": "s", "BRIGHTRUN_DATA": "/d", "PGPASSWORD": "p",
        "AWS_SECRET_ACCESS_KEY": "a", "ANTHROPIC_API_KEY": "k", "HF_TOKEN": "t", "HTTPS_PROXY": "http://u:p@proxy",
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    told = clean_environment(devices="", network=False)
    assert not secrets.keys() & told.keys()
    assert told["CUDA_VISIBLE_DEVICES"] == ""
    assert told["PATH"] == os.environ["PATH"]
    assert "HTTPS_PROXY" in clean_environment(devices="0,1", network=True)


def test_a_supervisor_knows_a_dead_one_of_its_own_machine_and_no_other() -> None:
    mine = new_owner()
    assert not is_dead(mine)
    where, pid, started, token = mine.rsplit(" ", 3)
    assert is_dead(f"{where} {pid} {float(started) - 100:.2f} {token}"), "another process had the pid then"
    assert not is_dead(f"elsewhere {pid} 1.00 {token}")
    assert not is_dead("anything")


def test_a_machine_keeps_its_name(tmp_path: Path) -> None:
    assert machine_id(tmp_path / "runs") == machine_id(tmp_path / "runs")
    assert machine_id(tmp_path / "other") != machine_id(tmp_path / "runs")


@given(st.decimals(0, 100, places=4), st.decimals(0, 10**6, places=3))
def test_the_cost_of_an_attempt_is_exact_to_a_millionth(price: Decimal, seconds: Decimal) -> None:
    cost = attempt_cost(price, seconds)
    assert abs(cost - price * seconds / 3600) <= Decimal("0.0000005")


def test_events_that_json_cannot_hold_do_not_stop_the_reading() -> None:
    lines = [(0, b"[]\n"), (3, b'{"type": "metric"}\n'), (9, json.dumps({"seq": 4, "type": "done"}).encode() + b"\n")]
    assert [event["seq"] for event in parse_events(lines, after_seq=0, run_dir=Path("x"))] == [4]
