"""Training files for tests of pages."""

import json
from typing import Any


def _row(question: str, answer: str, **more: Any) -> bytes:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]
    return json.dumps({"messages": said}).encode() + b"\n"


FIVE_FAULTS = (
    _row("What is slip?", "Liquid clay.")
    + _row("What is grog?", "Fired clay,\x07 ground.")
    + _row("What is bisque?", "The first firing.", weight=True)
    + _row("What is leather-hard?", "Half dry.").replace(b'"assistant"', b'"Assistant:"')
    + _row("What is raku?", "A fast firing.\\n\\nIt ends in sawdust.")
    + _row("What is slip?", "Liquid clay.")
)
"""Two errors and three warnings, each of which can be mended without judgement."""
