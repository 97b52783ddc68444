"""Repairs of single fields of a record: each answers the edits of its JSON text that make a finding untrue."""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from brightrun.formats.decode import decode
from brightrun.formats.json_spans import Edit, Span, removal, string_like
from brightrun.formats.mendable import label_meant, role_meant, weight_meant
from brightrun.formats.messages import read_message, role_of
from brightrun.formats.reading import Reading
from brightrun.formats.repeated_keys import same_value

Steps = list[str | int]
_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
_TEXT_KEYS = ("content", "value")


class Found(NamedTuple):
    """Where a finding stands: the record's text, its value and spans, and the steps to the field."""

    text: bytes
    value: Any
    root: Span
    steps: Steps

    def at(self, steps: Steps) -> Any:
        """The decoded value at some steps; None where there is none."""
        value = self.value
        for step in steps:
            if isinstance(step, str):
                value = value.get(step) if isinstance(value, dict) else None
            else:
                value = value[step] if isinstance(value, list) and 0 <= step < len(value) else None
        return value

    def replace(self, steps: Steps, data: bytes) -> list[Edit]:
        """Put a JSON text in the place of the value there."""
        span = self.root.find(steps)
        return [] if span is None else [Edit(span.start, span.end, data)]

    def remove(self, steps: Steps, last: int | None = None) -> list[Edit]:
        """Take an entry out of its list or object, or all from it to the one numbered `last`."""
        parent, step = self.root.find(steps[:-1]), steps[-1]
        if parent is None or parent.child(step) is None:
            return []
        first = parent.keys[step] if isinstance(step, str) else step
        return [removal(parent, first, last)]


def _blank_context(found: Found) -> list[Edit]:
    """A blank system message goes; a blank prompt stays, because nobody can say what it should be."""
    if len(found.steps) < 2 or not isinstance(found.steps[-2], int):
        return []
    message = found.at(found.steps[:-1])
    is_system = isinstance(message, dict) and role_of(message.get("role", message.get("from"))) == "system"
    return found.remove(found.steps[:-1]) if is_system else []


def _invalid_weight(found: Found) -> list[Edit]:
    weight = weight_meant(found.at(found.steps))
    return [] if weight is None else found.replace(found.steps, str(weight).encode())


def _invalid_label(found: Found) -> list[Edit]:
    label = label_meant(found.at(found.steps))
    return [] if label is None else found.replace(found.steps, b"true" if label else b"false")


def _unknown_role(found: Found) -> list[Edit]:
    spoken = found.at(found.steps)
    role = role_meant(spoken) if isinstance(spoken, str) else None
    if role is None:
        return []
    return found.replace(found.steps, orjson.dumps(_SHAREGPT[role] if found.steps[-1] == "from" else role))


def _weight_ignored(found: Found) -> list[Edit]:
    return found.remove(found.steps)


def _last_turn(found: Found) -> list[Edit]:
    """All that follows the last answer of the list goes."""
    # The number in the path counts the whole chat, the list may be the last part of it.
    messages = found.at(found.steps[:-1])
    if not isinstance(messages, list):
        return []
    roles = [role_of(m.get("role", m.get("from"))) if isinstance(m, dict) else None for m in messages]
    if "assistant" not in roles:
        return []
    first = len(roles) - roles[::-1].index("assistant")
    return found.remove([*found.steps[:-1], first], len(roles) - 1) if first < len(roles) else []


def _system_not_first(found: Found) -> list[Edit]:
    """Two system messages at the beginning become one, the second below the first."""
    messages_at, number = found.steps[:-1], found.steps[-1]
    messages = found.at(messages_at)
    if number != 1 or not isinstance(messages, list) or len(messages) < 2:
        return []
    first, second = messages[:2]
    keys = [next((key for key in _TEXT_KEYS if isinstance(m.get(key), str)), None) for m in (first, second)]
    if None in keys or len(second) != 2:
        return []
    key, other = keys
    where: Steps = [*messages_at, 0, str(key)]
    span = found.root.find(where)
    texts = (first[key].rstrip(), second[other].lstrip())
    joined = "\n\n".join(text for text in texts if text)
    old = b"" if span is None else found.text[span.start : span.end]
    return [*found.replace(where, string_like(old, joined)), *found.remove([*messages_at, 1])]


def _repeated_key(found: Found) -> list[Edit]:
    """Of a field that stands twice with the same value the earlier one goes."""
    parent = found.root.find(found.steps[:-1])
    if parent is None:
        return []
    kept = found.at(found.steps)
    for key, number in parent.earlier:
        span = parent.children[number]
        if key == found.steps[-1] and same_value(decode(found.text[span.start : span.end]), kept):
            return [removal(parent, number)]
    return []


def repeats_input(pair: Any) -> bool:
    """Whether the history of a v4 pair already ends with its current input, as the reader sees it."""
    history, current = pair.get("conversation_history"), pair.get("current_user_input")
    if not isinstance(history, list) or not history or not isinstance(current, str):
        return False
    last = read_message(history[-1], Reading(0, 0, "", 0), "")
    return last is not None and last.role == "user" and last.content.strip() == current.strip()


def history_repeats(found: Found) -> list[tuple[str, list[Edit]]]:
    """Of every pair in a record: the path of the history's last entry, and the edit that takes it out."""
    pairs: list[Steps] = [[]]
    if isinstance(listed := found.value.get("training_pairs"), list):
        pairs = [["training_pairs", number] for number in range(len(listed))]
    edits = []
    for steps in pairs:
        pair = found.at(steps) if steps else found.value
        if isinstance(pair, dict) and repeats_input(pair):
            last = len(pair["conversation_history"]) - 1
            prefix = f"training_pairs[{steps[1]}]." if steps else ""
            where = f"{prefix}conversation_history[{last}]"
            edits.append((where, found.remove([*steps, "conversation_history", last])))
    return edits


FIELD_REPAIRS: dict[str, Callable[[Found], list[Edit]]] = {
    "blank_context": _blank_context,
    "invalid_weight": _invalid_weight,
    "invalid_label": _invalid_label,
    "unknown_role": _unknown_role,
    "weight_ignored": _weight_ignored,
    "last_turn_not_assistant": _last_turn,
    "system_not_first": _system_not_first,
    "repeated_key": _repeated_key,
}
"""Code to repair; each answers no edits where there is nothing that it can do."""
