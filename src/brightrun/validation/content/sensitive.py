"""Secrets and personal data: each text of a conversation is looked at once, and what is found is shown masked."""

from collections.abc import Iterable, Iterator

import orjson

from brightrun.formats.masking import around, mask
from brightrun.formats.personal_data import CARD, EMAIL, IBAN, PHONE, SSN, find_personal_data
from brightrun.formats.records import Message, Record
from brightrun.formats.secrets import Found, find_secrets
from brightrun.validation.checks import Remark
from brightrun.validation.content.places import Places, Side

_CODES = {
    EMAIL: "email_address",
    PHONE: "phone_number",
    CARD: "payment_card",
    IBAN: "bank_account",
    SSN: "social_security_number",
}
_SIDES: tuple[Side, ...] = ("messages", "chosen", "rejected")
_REMEMBERED = 4_096


class SensitiveTexts:
    """names: `secrets`, `personal_data` or both.

    v4 pairs repeat the conversation so far, and records of a file share their system prompts: a text is reported
    where it stands first in its conversation, a system prompt where it stands first in the file.
    """

    def __init__(self, names: tuple[str, ...], places: Places) -> None:
        self.names = names
        self._secrets, self._personal = "secrets" in names, "personal_data" in names
        self._places = places
        self._conversation = ""
        self._heard: set[int] = set()
        self._prompts: dict[int, None] = {}

    def look(self, record: Record) -> Iterable[Remark]:
        """One remark for each kind of thing in each text."""
        if record.conversation_id != self._conversation or len(self._heard) > _REMEMBERED:
            self._conversation = record.conversation_id
            self._heard = set()
        remarks: list[Remark] = []
        for side in _SIDES:
            for number, message in enumerate(getattr(record, side) or ()):
                text = message.content
                if message.tool_calls:
                    text = f"{text}\n{_arguments(message)}"
                if self._is_new(message.role, text) and (found := self._find(text)):
                    remarks += self._remarks(record, side, number, text, found)
        return remarks

    def _is_new(self, role: str, text: str) -> bool:
        key = hash(text)
        if role != "system":
            known = key in self._heard
            self._heard.add(key)
            return not known
        if key in self._prompts:
            return False
        if len(self._prompts) >= _REMEMBERED:
            del self._prompts[next(iter(self._prompts))]
        self._prompts[key] = None
        return True

    def _find(self, text: str) -> list[Found]:
        found = find_secrets(text) if self._secrets else []
        return found + find_personal_data(text) if self._personal else found

    def _remarks(self, record: Record, side: Side, number: int, text: str, found: list[Found]) -> Iterator[Remark]:
        by_kind: dict[str, list[Found]] = {}
        for one in found:
            by_kind.setdefault(one.kind, []).append(one)
        for kind, those in by_kind.items():
            first = those[0]
            path = self._places.path(record, number, side, text[first.start : first.end])
            shown = mask(text, those[:1])[first.start : first.end]
            more = f", and {len(those) - 1:,} more" if len(those) > 1 else ""
            message = f"`{path}` holds {kind} ({shown[:60]}){more}." if path else f"Holds {kind} ({shown[:60]}){more}."
            yield Remark(_CODES.get(kind, "secret"), path, message, around(text, first.start))


def _arguments(message: Message) -> str:
    calls = [call.get("function") for call in message.tool_calls or ()]
    return "\n".join(
        arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        for function in calls
        if isinstance(function, dict) and (arguments := function.get("arguments"))
    )
