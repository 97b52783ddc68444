"""`brightrun_lora_v4` and `enriched_conversation`: training pairs with their scaffolding and emotional context.

One pair is one answer: its history is context, only its `target_response` is trained. Pairs of user turns have a null
target; they are counted apart.
"""

from typing import Any

from brightrun.formats.messages import check_order, read_messages
from brightrun.formats.reading import NullTarget, Reading, join_path, json_type, take_id, take_text
from brightrun.formats.records import Message, Scaffold
from brightrun.formats.texts import check_answer


def read_v4(obj: dict[str, Any], reading: Reading) -> None:
    """One line of the JSONL form."""
    conversation_id = take_id(obj, "conversation_id")
    if conversation_id is None:
        reading.report(
            "missing_field", "conversation_id", "`conversation_id` is missing: which conversation is the pair of?"
        )
    read_pair(obj, reading, conversation_id)
    if reading.has_failed():
        reading.records.clear()


def read_v4_full_pair(obj: dict[str, Any], reading: Reading) -> None:
    """One pair of the full file. The conversation's id stands above it: the pair's own is only its template's name."""
    read_pair(obj, reading, take_id(reading.conversation or {}, "conversation_id"))


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
    errors_before = reading.errors
    messages = _prompt(pair, reading, path)
    target = _target(pair, reading, path)
    if (own_id := take_id(pair, "id")) is not None:
        # Enriched pairs are numbered within their conversation only.
        reading.object_id = ("id", f"{conversation_id}/{own_id}")
    if reading.errors == errors_before:
        conversation = conversation_id or reading.fallback_id
        if target is None:
            spoken = _check_turn_number(pair, messages, reading, path)
            reading.null_targets.append(NullTarget(conversation, spoken))
            where = join_path(path, "target_response")
            reading.report("null_target", where, f"`{where}` is null: a user turn, not trained.")
        else:
            messages.append(Message(role="assistant", content=target, trained=True))
            _check_turn_number(pair, messages, reading, path)
            check_order(messages, reading, join_path(path, "conversation_history"))
            scaffold = scaffold_of(pair, reading.conversation)
            reading.add(messages, conversation_id=conversation, path=path, scaffold=scaffold)


def _prompt(pair: dict[str, Any], reading: Reading, path: str) -> list[Message]:
    """System prompt, history and current input, the last of which a history may already end with."""
    system = take_text(pair, "system_prompt", reading, path, required=False)
    history = pair.get("conversation_history")
    where = join_path(path, "conversation_history")
    messages = read_messages(history, reading, where) if history else []
    if history is not None and not isinstance(history, list) and not history:
        reading.report("wrong_type", where, f"`{where}` is {json_type(history)}; it must be a list of messages.")
    for message in messages:
        message.trained = False
    current = take_text(pair, "current_user_input", reading, path)
    if current is not None:
        here = join_path(path, "current_user_input")
        last = messages[-1] if messages and messages[-1].role == "user" else None
        if last is not None and (last.content == current or last.content.strip() == current.strip()):
            reading.history_repeats += 1
        elif not current.strip():
            reading.report("blank_content", here, f"`{here}` is blank: there is nothing to answer.")
        else:
            if last is not None:
                reading.report(
                    "history_input_differs",
                    f"{where}[{len(messages) - 1}]",
                    f"`{where}` ends with a user message that is not `{here}`.",
                )
            messages.append(Message(role="user", content=current))
    if system is None or not system.strip():
        if not reading.has_failed():
            reading.report("blank_context", join_path(path, "system_prompt"), "There is no system prompt.")
        return messages
    return [Message(role="system", content=system), *messages]


def _target(pair: dict[str, Any], reading: Reading, path: str) -> str | None:
    where = join_path(path, "target_response")
    if "target_response" not in pair:
        reading.report("missing_field", where, f"`{where}` is missing: there is nothing for a model to learn.")
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
    return target


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
