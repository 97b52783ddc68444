"""How an installation counts: exactly with its default base model, and as an estimate only when asked or impossible."""

import hashlib
import io
from pathlib import Path

from brightrun.datasets.counting import Counting
from brightrun.settings import Settings
from brightrun.validation import validate


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
    content = b'{"messages": [{"role": "user", "content": "Clay?"}, {"role": "assistant", "content": "Clay."}]}\n'
    sha256 = hashlib.sha256(content).hexdigest()
    reports = []
    for known_before in (False, True):
        view = counting.view(sha256, None)
        assert view is not None
        assert view.remembered is known_before
        report = validate(io.BytesIO(content), **view.arguments())
        view.complete(report, content_sha256=sha256)
        reports.append(report)
    assert reports[0] == reports[1]
    other = counting.view("0" * 64, None)
    assert other is not None
    assert not other.remembered
