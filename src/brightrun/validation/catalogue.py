"""The catalogue of issue codes for people, and its documentation page."""

from brightrun.formats.codes import CODES, Code

__all__ = ["CODES", "Code", "render_catalogue"]

_SEVERITIES = {
    "error": "blocks training",
    "warning": "worth a look, does not block",
    "info": "only told",
}


def render_catalogue() -> str:
    """`docs/reference/validation-codes.md`, whole. A check compares it with the file."""
    lines = [
        "# What the dataset check reports",
        "",
        "<!-- Generated from brightrun.formats.codes; change it there. -->",
        "",
        "Every finding names a line, a byte offset, the path of the field and one of these codes. Codes are stable:",
        "they are never renamed, and a code that is no longer reported is never used for something else.",
        "",
        "| Severity | Meaning |",
        "|---|---|",
        *(f"| {severity} | {meaning} |" for severity, meaning in _SEVERITIES.items()),
        "",
        "*Mendable* findings have a repair that needs no judgement.",
    ]
    for group in dict.fromkeys(code.group for code in CODES.values()):
        lines += ["", f"## {group}"]
        for name, code in CODES.items():
            if code.group == group:
                lines += ["", f"### `{name}`", "", *_entry(code)]
    return "\n".join(lines) + "\n"


def _entry(code: Code) -> list[str]:
    mendable = ", mendable" if code.fixable else ""
    return [f"**{code.title}** ({code.severity}{mendable}). {code.explanation}", "", f"What to do: {code.suggestion}"]
