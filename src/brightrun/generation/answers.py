"""What a model's answer must look like, and what is wrong with one that does not: pure, no database, no network.

The schema that is sent is narrow (every field required, no unions: providers refuse or slow down on more); what is
accepted is wider (a field more is kept, the second emotion may be missing), because servers without schema support and
earlier files write so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from brightrun.formats.texts import doubled_escapes, how_cut_off
from brightrun.llm.calls import Answer, Outcome

SCHEMA_NAME = "conversation"
_TEXT: dict[str, Any] = {"type": "string"}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMA: dict[str, Any] = _closed(
    {
        "conversation_metadata": _closed(
            {
                "client_persona": _TEXT | {"description": "Who the client is, in a few words"},
                "session_context": _TEXT | {"description": "What brings the client here today"},
                "conversation_phase": _TEXT | {"description": "Which part of the work this conversation belongs to"},
                "expected_outcome": _TEXT | {"description": "What should be different for the client afterwards"},
            }
        ),
        "turns": {
            "type": "array",
            "items": _closed(
                {
                    "turn_number": {"type": "integer", "description": "From 1, without gaps"},
                    "role": {"type": "string", "enum": ["user", "assistant"]},
                    "content": _TEXT | {"description": "What is said, as plain text"},
                    "emotional_context": _closed(
                        {
                            "primary_emotion": _TEXT,
                            "secondary_emotion": _TEXT | {"description": "Empty when there is none"},
                            "intensity": {"type": "number", "description": "From 0 to 1"},
                        }
                    ),
                }
            ),
        },
    }
)
"""The JSON schema of a conversation as it is sent. Changing it changes every request: nothing bought before fits."""


class ConversationMetadata(msgspec.Struct):
    client_persona: str
    session_context: str
    conversation_phase: str
    expected_outcome: str = ""


class Turn(msgspec.Struct):
    turn_number: int
    role: str
    content: str
    emotional_context: dict[str, Any]


class _Answer(msgspec.Struct):
    conversation_metadata: ConversationMetadata
    turns: list[Turn]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation that is fit to be kept.

    metadata: `conversation_metadata` whole, further fields included. turns: `(role, content, emotional_context)` in
    order. notes: what is odd and no failure, in words (nothing is mended without a word).
    """

    metadata: dict[str, Any]
    turns: list[tuple[str, str, dict[str, Any]]]
    notes: list[str] = field(default_factory=list)

    @property
    def emotions(self) -> tuple[str | None, str | None]:
        """The primary emotion of the first and of the last turn."""
        first, last = self.turns[0][2].get("primary_emotion"), self.turns[-1][2].get("primary_emotion")
        return (first if isinstance(first, str) else None), (last if isinstance(last, str) else None)

    @property
    def intensities(self) -> tuple[float | None, float | None]:
        return _intensity(self.turns[0][2]), _intensity(self.turns[-1][2])


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an answer gives no conversation. reason: stable, finer than the class; message: one sentence."""

    outcome: Outcome
    reason: str
    message: str


_decoder = msgspec.json.Decoder(_Answer)
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(?P<inside>.*?)\n?\s*```\s*$", re.DOTALL)
_LEAST_TURNS, _MOST_TURNS = 2, 100


def read_answer(answer: Answer, *, turns: tuple[int, int] | None = None) -> Conversation | Failure:
    """The conversation in an answer, or why there is none. turns: fewest and most that were asked for.

    The stop reason is looked at first: what was refused or cut off is not parsed for a row.
    """
    if answer.outcome is not Outcome.OK:
        return _stopped(answer)
    return read_text(answer.text, turns=turns)


def _stopped(answer: Answer) -> Failure:
    match answer.outcome:
        case Outcome.REFUSAL:
            category = answer.refusal_category
            named = f" (category {category})" if category else ""
            return Failure(Outcome.REFUSAL, category or "refusal", f"The model refused{named}.")
        case Outcome.TRUNCATED:
            return Failure(
                Outcome.TRUNCATED, "max_tokens",
                f"The answer was cut off at its limit of tokens ({answer.usage.output_tokens:,} written).",
            )  # fmt: skip
        case Outcome.CONTEXT_OVERFLOW:
            return Failure(
                Outcome.CONTEXT_OVERFLOW, "context_window", "Prompt and answer do not fit into the model's context."
            )
        case _:
            said = answer.stop_said or "nothing"
            return Failure(
                Outcome.SEMANTIC_INVALID, "stop_reason", f"The model stopped for a reason we cannot use: {said}."
            )


def read_text(text: str, *, turns: tuple[int, int] | None = None) -> Conversation | Failure:
    """As `read_answer`, for the text alone."""
    notes: list[str] = []
    raw = text.strip()
    if not raw:
        return Failure(Outcome.SCHEMA_INVALID, "empty_answer", "The answer is empty.")
    if raw.startswith("```") and (fenced := _FENCE.match(raw)):
        raw = fenced["inside"]
        notes.append("the JSON stood in a code fence")
    try:
        parsed = _decoder.decode(raw)
        whole = orjson.loads(raw)
    except (msgspec.ValidationError, msgspec.DecodeError, orjson.JSONDecodeError) as error:
        if isinstance(error, msgspec.ValidationError):
            return Failure(Outcome.SCHEMA_INVALID, "fields", f"The answer does not fit the schema: {error}.")
        if (how := _cut_json(raw)) is not None:
            return Failure(Outcome.TRUNCATED, "json_cut_off", f"The answer {how}.")
        return Failure(Outcome.SCHEMA_INVALID, "no_json", f"The answer is no JSON: {error}.")
    failure = _check_order(parsed.turns, turns, notes) or _check_contents(parsed.turns)
    if failure is not None:
        return failure
    said = [(turn.role, turn.content, turn.emotional_context) for turn in parsed.turns]
    return Conversation(whole["conversation_metadata"], said, notes)


def _cut_json(raw: str) -> str | None:
    """Whether broken JSON is the beginning of a whole one."""
    if raw[0] not in "{[":
        return None
    if raw.endswith("\\"):
        return "ends with a lone backslash, before its JSON is closed"
    if raw[-1] not in "}]" or raw.count("{") > raw.count("}"):
        return "stops before its JSON is closed"
    return None


def _semantic(reason: str, message: str) -> Failure:
    return Failure(Outcome.SEMANTIC_INVALID, reason, message)


def _check_order(turns: Sequence[Turn], asked: tuple[int, int] | None, notes: list[str]) -> Failure | None:
    count = len(turns)
    if not _LEAST_TURNS <= count <= _MOST_TURNS:
        return _semantic("turn_count", f"The conversation has {count} turns; {_LEAST_TURNS} to {_MOST_TURNS} make one.")
    for index, turn in enumerate(turns):
        if turn.role not in {"user", "assistant"}:
            message = f"Turn {index + 1} has the role {turn.role!r}; the schema knows `user` and `assistant`."
            return Failure(Outcome.SCHEMA_INVALID, "role", message)
        if index and turn.role == turns[index - 1].role:
            return _semantic(
                "roles", f"Turns {index} and {index + 1} are both the {turn.role}'s: roles must alternate."
            )
    if turns[0].role != "user":
        return _semantic("roles", "The conversation begins with the assistant; the client speaks first.")
    if turns[-1].role != "assistant":
        return _semantic("last_turn", "The conversation ends with the client: its last turn was not answered.")
    first = turns[0].turn_number
    if any(turn.turn_number != first + index for index, turn in enumerate(turns)):
        numbers = ", ".join(str(turn.turn_number) for turn in turns[:12])
        return _semantic("turn_numbers", f"The turns are numbered {numbers}: a turn is missing or out of order.")
    if first != 1:
        notes.append(f"turns were numbered from {first}; they are kept from 1")
    if asked is not None and not asked[0] <= count <= asked[1]:
        notes.append(f"{count} turns, where {asked[0]} to {asked[1]} were asked for")
    return None


def _check_contents(turns: Sequence[Turn]) -> Failure | None:
    for index, turn in enumerate(turns):
        where = f"Turn {index + 1}"
        if not turn.content.strip():
            return _semantic("empty_turn", f"{where} is empty.")
        if "\\" in turn.content and (escape := next(doubled_escapes(turn.content), None)):
            return _semantic("literal_escapes", f"{where} holds the written-out escape {escape.group()}.")
    for index, turn in enumerate(turns):
        end = turn.content.rstrip()
        how = how_cut_off(end)
        if how is None and turn.role == "assistant" and _stops_short(end) and _others_end_well(turns, index):
            how = f"ends in the middle of a sentence (“… {end[-40:]}”)"
        if how is not None and (turn.role == "assistant" or end.endswith("\\")):
            return Failure(Outcome.TRUNCATED, "text_cut_off", f"Turn {index + 1} {how}.")
    return None


# A last line like this is no sentence: a list item, a heading, a signature, a link.
_NO_SENTENCE = re.compile(r"\s*(?:[-*•–—>#|]|\d{1,3}[.)]|[A-Za-z][.)]\s|https?://|\S+$)")
_WORDS_OF_A_SIGNATURE = 4


def _stops_short(end: str) -> bool:
    """Whether a text stops where neither sentence nor word seems to be over."""
    last = end[-1:]
    if not (last.isalpha() or last in ",-"):
        return False
    line = end[end.rfind("\n") + 1 :]
    if "\n" in end and (_NO_SENTENCE.match(line) or len(line.split()) <= _WORDS_OF_A_SIGNATURE):
        return False
    # Scripts without capital letters or full stops of ours are judged by nobody here.
    return last.islower() or last in ",-"


def _others_end_well(turns: Sequence[Turn], index: int) -> bool:
    """Whether this conversation's other replies end with a full stop: what has none in one that has, was cut off."""
    others = [turn.content.rstrip()[-1:] for n, turn in enumerate(turns) if n != index and turn.role == "assistant"]
    if not others:
        others = [turn.content.rstrip()[-1:] for n, turn in enumerate(turns) if n != index]
    return all(end in ".!?…\"')”’:" for end in others)


def _intensity(context: dict[str, Any]) -> float | None:
    value = context.get("intensity")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
