"""How an installation counts: exactly with its default base model, and as an estimate only when asked or impossible."""

from pathlib import Path

from brightrun.datasets.counting import Counting
from brightrun.settings import Settings


def test_tokens_are_counted_with_the_default_base_model_unless_an_estimate_is_asked_for(tmp_path: Path) -> None:
    counting = Counting.of(Settings(data=tmp_path))
    assert counting == Counting("tiny", None, tmp_path / "cache" / "tokens")
    assert Counting.of(Settings(data=tmp_path, default_base_model="tiny-random")) != counting
    assert Counting.of(Settings(data=tmp_path, estimate_tokens=True)) is None


def test_a_default_base_model_that_is_not_there_counts_nothing_exactly(tmp_path: Path) -> None:
    assert Counting("nobody", None, tmp_path).view(None, None) is None
    assert Counting(str(tmp_path), None, tmp_path).view(None, None) is None, "a setting names no path"


def test_a_second_validation_of_the_same_bytes_is_remembered(tmp_path: Path) -> None:
    counting = Counting("tiny", None, tmp_path)
    view = counting.view("0" * 64, "openai_messages")
    assert view is not None
    assert not view.remembered
    assert {"count_tokens", "record_checks"} <= view.arguments().keys()
