"""`brightrun_lora_v4` and `enriched_conversation`: training pairs with their scaffolding and emotional context.

One pair is one answer: its history is context, only its `target_response` is trained. Pairs of user turns have a null
target; they are counted apart.
"""

from typing import Any

from brightrun.formats.dialogue import Part, check_order, messages_of
from brightrun.formats.messages import read_messages
from brightrun.formats.reading import (
    NullTarget,
    Reading,
    join_path,
    json_type,
    likely_field,
    take_id,
    take_required_id,
    take_text,
)
from brightrun.formats.records import Message, Scaffold
from brightrun.formats.texts import check_answer


def read_v4(obj: dict[str, Any], reading: Reading) -> None:
    """One line of the JSONL form."""
    conversation_id = take_required_id(obj, reading)
    read_pair(obj, reading, conversation_id)
    if reading.has_failed():
        reading.records.clear()


def read_enriched(obj: dict[str, Any], reading: Reading) -> None:
    """One enriched conversation with all its pairs."""
    conversation_id = enriched_id(obj.get("dataset_metadata")) or take_id(obj, "conversation_id")
    pairs = obj.get("training_pairs")
    if not isinstance(pairs, list):
        code = "missing_field" if "training_pairs" not in obj else "wrong_type"
        reading.report(code, "training_pairs", f"`training_pairs` is {json_type(pairs)}; it must be a list of pairs.")
        return
    if not pairs:
        reading.report("empty_list", "training_pairs", "`training_pairs` is empty.")
    for number, pair in enumerate(pairs):
        where = f"training_pairs[{number}]"
        if isinstance(pair, dict):
            read_pair(pair, reading, conversation_id, where)
        else:
            reading.report("wrong_type", where, f"`{where}` is {json_type(pair)}; a pair is an object.")


def enriched_id(metadata: object) -> str | None:
    """The conversation's id, which an enriched file writes as `fp_conversation_<id>` in its data set's name."""
    name = take_id(metadata, "dataset_name") if isinstance(metadata, dict) else None
    return name.removeprefix("fp_conversation_") if name else None


def read_pair(pair: dict[str, Any], reading: Reading, conversation_id: str | None, path: str = "") -> None:
    """One training pair. path: of the pair within the object."""
    errors_before, issues_before = reading.errors, len(reading.issues)
    parts = _prompt(pair, reading, path)
    differs = any(issue.code == "history_input_differs" for issue in reading.issues[issues_before:])
    target = _target(pair, reading, path)
    if (own_id := take_id(pair, "id")) is not None:
        # Enriched pairs are numbered within their conversation only.
        reading.object_id = ("id", f"{conversation_id}/{own_id}")
    if reading.errors == errors_before:
        conversation = conversation_id or reading.fallback_id
        if target is None:
            spoken = _check_turn_number(pair, messages_of(parts), reading, path)
            reading.null_targets.append(NullTarget(conversation, spoken))
            where = join_path(path, "target_response")
            reading.report("null_target", where, f"`{where}` is null: a user turn, not trained.")
        else:
            parts.append(target)
            _check_turn_number(pair, messages_of(parts), reading, path)
            # Two questions in a row where the history ends with another input: that is said once.
            check_order(parts[:2] if differs else parts, reading)
            scaffold = scaffold_of(pair, reading.conversation)
            reading.add(messages_of(parts), conversation_id=conversation, path=path, scaffold=scaffold)


def _prompt(pair: dict[str, Any], reading: Reading, path: str) -> list[Part]:
    """System prompt, history and current input, the last of which a history may already end with."""
    system = take_text(pair, "system_prompt", reading, path, required=False)
    parts = [_system(system, pair, reading, path), history := _history(pair, reading, path)]
    current = take_text(pair, "current_user_input", reading, path)
    if current is None:
        return parts
    here = join_path(path, "current_user_input")
    last = history.messages[-1] if history.messages and history.messages[-1].role == "user" else None
    if last is not None and (last.content == current or last.content.strip() == current.strip()):
        reading.history_repeats += 1
    elif not current.strip():
        reading.report("blank_content", here, f"`{here}` is blank: there is nothing to answer.")
    else:
        if last is not None:
            message = f"`{history.path}` ends with a user message that is not `{here}`."
            reading.report("history_input_differs", history.place(len(history.messages) - 1), message)
        parts.append(Part([Message(role="user", content=current)], here, current))
    return parts


def _system(system: str | None, pair: dict[str, Any], reading: Reading, path: str) -> Part:
    where = join_path(path, "system_prompt")
    if system is not None and system.strip():
        return Part([Message(role="system", content=system)], where, system)
    if system is not None or "system_prompt" not in pair:  # null says that there is none
        reading.report("blank_context", where, "There is no system prompt.", fixable=False)  # nobody can guess one
    return Part([], where)


def _history(pair: dict[str, Any], reading: Reading, path: str) -> Part:
    history, where = pair.get("conversation_history"), join_path(path, "conversation_history")
    messages = read_messages(history, reading, where) if history else []
    if history is not None and not isinstance(history, list) and not history:
        reading.report("wrong_type", where, f"`{where}` is {json_type(history)}; it must be a list of messages.")
    for message in messages:
        message.trained = False
    return Part(messages, where, history)


def _target(pair: dict[str, Any], reading: Reading, path: str) -> Part | None:
    """The answer; None where it is null, which is no fault, or was reported."""
    where = join_path(path, "target_response")
    if "target_response" not in pair:
        advice = likely_field(pair, "target_response") or "Add `target_response` with the answer; null for a user turn."
        message = f"`{where}` is missing: there is nothing for a model to learn."
        reading.report("missing_field", where, message, suggestion=advice)
        return None
    target = pair["target_response"]
    if target is None:
        return None
    if not isinstance(target, str):
        reading.report("wrong_type", where, f"`{where}` is {json_type(target)}; it must be a text.")
        return None
    if not target.strip():
        reading.report("blank_content", where, f"`{where}` is blank: there is nothing for a model to learn.")
    check_answer(target, reading, where)
    return Part([Message(role="assistant", content=target, trained=True)], where, target)


def _check_turn_number(pair: dict[str, Any], messages: list[Message], reading: Reading, path: str) -> int:
    """The turns up to and with this one, which is what `turn_number` should say."""
    spoken = sum(message.role != "system" for message in messages)
    number = pair.get("turn_number")
    if isinstance(number, int) and not isinstance(number, bool) and number != spoken:
        where = join_path(path, "turn_number")
        reading.report("turn_number_gap", where, f"`{where}` is {number}, but with its history this is turn {spoken}.")
    return spoken


def scaffold_of(pair: dict[str, Any], conversation: dict[str, Any] | None) -> Scaffold | None:
    """Keys first, names where there is no key; from the pair, else from its conversation."""
    own = pair.get("conversation_metadata")
    above = (conversation or {}).get("scaffolding")
    sources = [source for source in (own, above) if isinstance(source, dict)]
    training = pair.get("training_metadata")
    score = training.get("quality_score") if isinstance(training, dict) else None

    def first(*keys: str) -> str | None:
        return next((found for key in keys for source in sources if (found := take_id(source, key))), None)

    scaffold = Scaffold(
        persona=first("persona_archetype", "persona_key", "client_persona", "persona_name"),
        emotional_arc=first("emotional_arc_key", "emotional_arc"),
        topic=first("training_topic_key", "training_topic"),
        tier=first("tier"),
        quality_score=float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None,
    )
    return None if scaffold == Scaffold() else scaffold
