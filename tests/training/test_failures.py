"""Failures are told apart: scored on real and written cases that no rule was written for, and each says what to do."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from brightrun.training.failures.classes import EXPLANATIONS, FailureClass
from brightrun.training.failures.classify import classify

FAULTS = Path(__file__).with_name("faults")
CASES: list[dict[str, Any]] = [
    json.loads(line)
    for name in ("real.jsonl", "written.jsonl")
    for line in (FAULTS / name).read_text(encoding="utf-8").splitlines()
]


def is_scored(case: dict[str, Any]) -> bool:
    """Half of the cases by the hash of their names: rules may be changed for the other half only."""
    return hashlib.sha256(case["id"].encode()).digest()[0] % 2 == 1


def wrong(cases: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    told = [
        (case["id"], case["class"], classify(case["code"], case["message"], case["evidence"]).kind) for case in cases
    ]
    return [(name, expected, found.value) for name, expected, found in told if found != expected]


def test_the_fault_set_has_forty_cases_of_fourteen_classes_half_of_them_real() -> None:
    assert len(CASES) >= 40
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert len([case for case in CASES if case["source"] == "real"]) >= 20
    assert {case["class"] for case in CASES} == set(FailureClass) - {FailureClass.UNKNOWN}
    assert 0.4 < len([case for case in CASES if is_scored(case)]) / len(CASES) < 0.6


def test_the_half_that_rules_were_written_on_is_right() -> None:
    assert wrong([case for case in CASES if not is_scored(case)]) == []


def test_of_the_half_that_no_rule_was_written_for_ninety_five_percent_are_right() -> None:
    scored = [case for case in CASES if is_scored(case)]
    missed = wrong(scored)
    assert len(missed) / len(scored) <= 0.05, missed


def test_every_class_explains_itself_and_the_line_that_shows_it_is_of_the_log_or_the_message() -> None:
    for kind in FailureClass:
        explanation = EXPLANATIONS[kind]
        assert explanation.title
        assert explanation.cause.endswith(".")
        assert explanation.advice.endswith(".")
    for case in CASES:
        line = classify(case["code"], case["message"], case["evidence"]).line
        assert line
        assert line in case["message"] or line in case["evidence"]


@pytest.mark.parametrize("message", ["", "It ended.", "exit 3"])
def test_what_no_rule_knows_is_not_guessed(message: str) -> None:
    assert classify("", message, "all is well").kind is FailureClass.UNKNOWN
