"""The guide to the formats shows what is really read: each of its examples is a clean file of its format."""

import io
import re
from pathlib import Path

from brightrun.formats.names import FORMAT_IDS
from brightrun.formats.reader import RecordReader

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "formats.md"


def test_each_example_is_read_as_its_format_without_a_finding() -> None:
    sections = re.split(r"^### `(\w+)`$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert set(shown) == set(FORMAT_IDS)
    for name, section in shown.items():
        examples = re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)
        assert examples
        for example in examples:
            reader = RecordReader(io.BytesIO(example.encode()), texts=True)
            readings = list(reader.readings())
            assert [issue.message for reading in readings for issue in reading.issues] == []
            assert sum(len(reading.records) for reading in readings) == 1
            assert reader.detection is not None
            assert reader.detection.format == name
