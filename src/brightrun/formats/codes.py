"""The catalogue of what can be wrong with a training file. Codes are stable: they are stored, filtered and documented.

`docs/reference/validation-codes.md` is generated from this table (`brightrun.validation.catalogue`).
"""

from typing import Literal

import msgspec


class Code(msgspec.Struct, frozen=True):
    """severity: `error` blocks training, `warning` does not, `info` is only told.

    fixable: a repair needs no judgement.
    """

    severity: Literal["error", "warning", "info"]
    group: str
    title: str
    explanation: str
    suggestion: str
    fixable: bool = False


_FILE, _TEXT, _SHAPE, _CHAT, _MODEL, _CONTENT, _COUNTS, _COMPARED, _REPLIES, _SENSITIVE = (
    "The file as a whole",
    "Lines and JSON",
    "Fields",
    "The conversation",
    "The chosen model",
    "The text",
    "Counts and identity",
    "Conversations compared",
    "What the replies say",
    "Secrets and personal data",
)


def _error(group: str, title: str, explanation: str, suggestion: str, *, fixable: bool = False) -> Code:
    return Code("error", group, title, explanation, suggestion, fixable)


def _warning(group: str, title: str, explanation: str, suggestion: str, *, fixable: bool = False) -> Code:
    return Code("warning", group, title, explanation, suggestion, fixable)


CODES: dict[str, Code] = {
    "empty_file": _error(
        _FILE,
        "Empty file",
        "The file has no bytes, or nothing but blank lines.",
        "Upload the file again; check that the export that made it had finished.",
    ),
    "binary_file": _error(
        _FILE,
        "Not a text file",
        "The first bytes are those of another kind of file (an archive, a document, an image, a table).",
        "Unpack or export the data as JSON Lines (one JSON object a line) in UTF-8.",
    ),
    "wrong_encoding": _error(
        _FILE,
        "Not UTF-8",
        "The file is written in UTF-16 or UTF-32. Training files are UTF-8.",
        "Save the file again with the encoding UTF-8.",
        fixable=True,
    ),
    "unknown_format": _error(
        _FILE,
        "Format not recognised",
        "No record among the first ones has the fields of any format that BrightRun reads.",
        "Compare a line of the file with the examples in the format guide, or name the format when you upload.",
    ),
    "format_mismatch": _error(
        _FILE,
        "Declared format contradicts the content",
        "The format that was declared is not the one that the records are written in.",
        "Declare the format that was found, or leave the format to be detected.",
    ),
    "no_records": _error(
        _FILE, "No records", "The file can be read but holds no record.", "Check that the export wrote its records."
    ),
    "nothing_to_train": _error(
        _FILE,
        "Nothing to learn in the whole file",
        "Every record was read, but none has an answer that a model would learn: all targets are null.",
        "Export the pairs whose `target_response` is written, not only the user turns.",
    ),
    "byte_order_mark": Code(
        "info",
        _FILE,
        "Byte order mark",
        "The file begins with an invisible UTF-8 byte order mark. It is skipped.",
        "Nothing to do. Other programs may stumble over it: save as UTF-8 without BOM.",
        True,
    ),
    "crlf_lines": Code(
        "info",
        _FILE,
        "Windows line ends",
        "Lines end in carriage return and line feed. They are read like any other.",
        "Nothing to do.",
        True,
    ),
    "broken_json": _error(
        _TEXT,
        "Broken JSON",
        "The text is not valid JSON. The byte where reading stopped and what was expected there are given.",
        "Correct the text at the place shown, or write the file again with a JSON library.",
    ),
    "broken_structure": _error(
        _TEXT,
        "Broken JSON between records",
        "The JSON array or file around the records is damaged, so that what follows cannot be told apart.",
        "Correct the place shown; what comes after it was not checked.",
    ),
    "invalid_utf8": _error(
        _TEXT,
        "Invalid UTF-8",
        "Some bytes are not UTF-8 text, often because the file was saved in Windows-1252 or Latin-1.",
        "Save the file again with the encoding UTF-8.",
        fixable=True,
    ),
    "lone_surrogate": _error(
        _TEXT,
        "Half an emoji",
        "An escape such as `\\ud83d` stands without its second half. No text contains such a character.",
        "Write the whole character, or remove the escape.",
        fixable=True,
    ),
    "nesting_too_deep": _error(
        _TEXT,
        "Nested too deeply",
        "The record has more than 1,000 brackets inside one another. No training format needs more than ten.",
        "Remove the record; it was most likely damaged or made by mistake.",
    ),
    "duplicate_key": _error(
        _TEXT,
        "Field that stands twice",
        "One object holds the same field twice with different values, and the field is one that training reads. "
        "Programs take either of them without a word: the last mostly, some the first. Both are shown.",
        "Keep the one that is meant and remove the other.",
    ),
    "repeated_key": _warning(
        _TEXT,
        "Field that stands twice",
        "One object holds the same field twice: with the same value, or in a field that training does not read. "
        "The last one is taken.",
        "Keep one of them.",
        fixable=True,
    ),
    "record_too_long": _error(
        _TEXT,
        "Record too long",
        "One record is larger than the limit and was skipped without being looked at.",
        "Split the record. If the whole file is one line without line ends, write one record a line.",
    ),
    "not_an_object": _error(
        _SHAPE,
        "Not a JSON object",
        "The record is valid JSON, but a list, a number or a bare text. A record is an object: `{…}`.",
        "Write each record as an object with the fields of its format.",
    ),
    "mixed_formats": _error(
        _SHAPE,
        "Record of another format",
        "This record has the fields of another format than the rest of the file.",
        "Convert it, or put it in a file of its own.",
    ),
    "missing_field": _error(_SHAPE, "Missing field", "A field that the format requires is absent.", "Add the field."),
    "null_value": _error(_SHAPE, "Null", "A field that needs a value is null.", "Give the field a value."),
    "wrong_type": _error(
        _SHAPE, "Wrong type", "A field holds another kind of value than the format says.", "Write the value as shown."
    ),
    "empty_list": _error(
        _SHAPE, "Empty list", "A list that needs at least one entry is empty.", "Add the entries, or remove the record."
    ),
    "blank_content": _error(
        _SHAPE,
        "Blank text",
        "A message or answer is empty or only white space, so there is nothing to learn from it or to answer to.",
        "Write the text, or remove the record.",
    ),
    "blank_context": _warning(
        _SHAPE,
        "Blank context",
        "A system prompt or a prompt is empty. The record can be trained; it may not be what was meant.",
        "Write the text, or remove the field.",
        fixable=True,
    ),
    "unknown_role": _error(
        _SHAPE,
        "Unknown role",
        "The speaker of a message is none that a chat model knows.",
        "Use `system`, `user`, `assistant` or `tool` (`human` and `gpt` are read too).",
    ),
    "unsupported_content": _error(
        _SHAPE,
        "Content that is not text",
        "A message holds an image, audio or a file. BrightRun trains language models on text.",
        "Remove the part, or describe it in words.",
    ),
    "invalid_weight": _error(
        _SHAPE,
        "Invalid weight",
        "`weight` says whether a message is trained: 1 for yes, 0 for no.",
        "Use 0 or 1.",
        fixable=True,
    ),
    "invalid_label": _error(
        _SHAPE,
        "Invalid label",
        "The KTO label is neither true nor false.",
        "Write `true` for a wanted answer and `false` for an unwanted one.",
    ),
    "invalid_tools": _error(
        _SHAPE,
        "Tool definitions unreadable",
        "`tools` is not a list of tool definitions.",
        "Write a JSON list of tools, or remove the field.",
    ),
    "tool_arguments_not_json": _error(
        _SHAPE,
        "Tool arguments are not JSON",
        "A model trained on this would learn to call tools with arguments that no program can read.",
        "Write the arguments as a JSON object.",
    ),
    "no_assistant_turn": _error(
        _CHAT,
        "Nothing for a model to learn",
        "The record has no assistant message, and only assistant messages are trained.",
        "Add the assistant's answer, or remove the record.",
    ),
    "all_weights_zero": _error(
        _CHAT,
        "Every answer switched off",
        "All assistant messages have `weight` 0, so nothing in the record would be trained.",
        "Give the answers to be learned `weight` 1, or remove the record.",
    ),
    "last_turn_not_assistant": _warning(
        _CHAT,
        "Does not end with an answer",
        "What follows the last assistant message is read by nobody: it is neither trained nor answered.",
        "Remove the trailing messages, or add the answer.",
        fixable=True,
    ),
    "role_order": _warning(
        _CHAT,
        "Unusual order of speakers",
        "Two messages of the same speaker follow each other, or the conversation does not begin with the user. "
        "Some chat templates refuse that.",
        "Merge the messages, or add the missing turn.",
    ),
    "system_not_first": _warning(
        _CHAT,
        "System message out of place",
        "There is more than one system message, or it does not come first. Many chat templates refuse or drop it.",
        "Put one system message at the beginning.",
    ),
    "weight_ignored": _warning(
        _CHAT,
        "Weight without effect",
        "`weight` stands on a message that is not the assistant's. Only assistant messages are trained.",
        "Remove the `weight`.",
        fixable=True,
    ),
    "identical_preference": _warning(
        _CHAT,
        "Chosen equals rejected",
        "Both answers are the same, so the pair says nothing about which is better.",
        "Remove the pair.",
        fixable=True,
    ),
    "history_repeats_input": Code(
        "info",
        _CHAT,
        "History ends with the current input",
        "The conversation history already contains the current user input. It is read once, not twice.",
        "Nothing to do.",
        True,
    ),
    "history_input_differs": _warning(
        _CHAT,
        "History ends with another user message",
        "The history ends with a user message that is not the current input, so two user messages follow each other.",
        "Add the assistant's answer in between, or make the two texts the same.",
    ),
    "null_target": Code(
        "info",
        _CHAT,
        "No target: a user turn",
        "The pair's `target_response` is null, as it is for user turns. It is counted apart and not trained.",
        "Nothing to do.",
    ),
    "template_refused": _error(
        _MODEL,
        "Refused by the chat template",
        "The chosen model's own chat template refuses the conversation, in the words quoted; often for the order of "
        "its speakers. Training stops at such a row, or leaves it out where that was allowed.",
        "Bring the messages into the order that the template asks for, or choose another base model.",
    ),
    "template_fault": _error(
        _MODEL,
        "The chat template breaks on it",
        "The chosen model's chat template cannot write this conversation: it meets something it does not know, such as "
        "tool calls in a model without tools.",
        "Choose a base model whose template knows what the row holds, or remove it from the row.",
    ),
    "cannot_be_labelled": _error(
        _MODEL,
        "No certain place for the answer",
        "The chat template rewrites an answer so that its tokens cannot be told from the rest for certain. They are "
        "never guessed.",
        "Leave the message untrained (`weight` 0), change its text, or choose another base model.",
    ),
    "end_of_turn_not_trained": _warning(
        _MODEL,
        "End of turn not trained",
        "The chat template ends answers without an end-of-turn token, so the model may not learn to stop. Said once, "
        "at the first such row.",
        "Choose the instruction-tuned variant of the model, whose template ends turns.",
    ),
    "history_shortened": _warning(
        _MODEL,
        "Oldest messages left out",
        "The row is longer than the maximum length. The trainer leaves out its oldest exchanges before the first "
        "trained answer, so that the answer fits.",
        "Nothing to do if the answer does not need them; else raise the maximum length.",
    ),
    "truncated": _warning(
        _MODEL,
        "Cut at the maximum length",
        "The row is longer than the maximum length and is cut at its end. Trained tokens behind the cut are not "
        "learned.",
        "Raise the maximum length, or split the conversation.",
    ),
    "all_trained_tokens_cut": _warning(
        _MODEL,
        "Nothing left to learn",
        "All trained tokens of the row lie beyond the maximum length, so the trainer does not use the row.",
        "Raise the maximum length, or shorten what comes before the answer.",
    ),
    "control_character": _warning(
        _CONTENT,
        "Control characters",
        "The text holds invisible control characters that a model would learn to write.",
        "Remove them.",
        fixable=True,
    ),
    "replacement_character": _warning(
        _CONTENT,
        "Lost characters",
        "The text holds the replacement character �: an earlier program could not read what stood there.",
        "Restore the text from its source.",
    ),
    "garbled_characters": _warning(
        _CONTENT,
        "Garbled characters",
        "The text holds what becomes of an accent, a quotation mark or an emoji when UTF-8 is read with another "
        "encoding: `Ã©` instead of é, `â€™` instead of ’. A model would learn to write it.",
        "Export the text again with the encoding UTF-8, from the program that still shows it right.",
    ),
    "doubled_escape": _warning(
        _CONTENT,
        "Doubled escapes",
        "The text holds a written-out `\\n` (backslash and n) where a line break was meant, or another escape "
        '(`\\u00e9`, `\\"`) that was escaped twice. A model would learn to write it.',
        "Replace it by the character that was meant.",
        fixable=True,
    ),
    "text_cut_off": _warning(
        _CONTENT,
        "Answer cut off",
        "The answer stops in the middle. A model would learn to stop there.",
        "Complete the answer, or remove the record.",
    ),
    "unfilled_placeholder": _warning(
        _CONTENT,
        "Unfilled placeholder",
        "The text holds a placeholder of a template that was never filled in.",
        "Fill in the value.",
    ),
    "special_token_in_text": _warning(
        _CONTENT,
        "Chat markers in the text",
        "The text holds a marker that a chat template uses to separate messages. The tokenizer may read it as one.",
        "Remove the marker.",
        fixable=True,
    ),
    "meta_count_mismatch": _warning(
        _COUNTS,
        "Declared count is wrong",
        "The file's header declares another number of records than the file holds. What is in the file counts.",
        "Check that nothing was lost when the file was written; correct the header.",
        fixable=True,
    ),
    "misplaced_meta": _warning(
        _COUNTS,
        "Header in the middle",
        "A `_meta` line stands after the first record, as when two files were joined. It is skipped.",
        "Remove the line.",
        fixable=True,
    ),
    "duplicate_id": _warning(
        _COUNTS,
        "Id used twice",
        "Two records carry the same id, which should be unique in the file.",
        "Remove the copy, or give each its own id.",
    ),
    "duplicate_record": _warning(
        _COUNTS,
        "Exact duplicate",
        "Two records have exactly the same messages. The text is learned twice as hard, and a held-out test may know "
        "its answer.",
        "Remove one of them.",
        fixable=True,
    ),
    "turn_number_gap": _warning(
        _COUNTS,
        "Turn numbers with a gap",
        "A pair's `turn_number` does not fit its history: turns seem to be missing.",
        "Check that no turn was lost.",
    ),
    "near_duplicate": _warning(
        _COMPARED,
        "Near-duplicate",
        "Two conversations say nearly the same: the share of word triples that they have in common is given, and was "
        "computed from the texts themselves. What stands there is learned twice as hard.",
        "Keep one of the two, unless the small difference is what the model should learn. A split has to keep both on "
        "the same side.",
    ),
    "held_out_duplicate": _warning(
        _COMPARED,
        "Held-out conversation also in training",
        "A conversation that is kept for the test has an exact or near-duplicate among those that are trained on. The "
        "test would measure memory, not skill.",
        "Split again with near-duplicates kept together, or remove one of the two.",
    ),
    "refusal": _warning(
        _REPLIES,
        "Refusal",
        "The answer begins like a refusal. A model learns quickly to refuse, also where it should not.",
        "Remove the record, or write the answer that was wanted. Keep it where the model should learn to refuse.",
    ),
    "provider_boilerplate": _warning(
        _REPLIES,
        "Speaks as an AI assistant",
        "The answer says what assistants say of themselves (“as an AI language model”, “trained by …”, “my knowledge "
        "cutoff”). The trained model would introduce itself so, too.",
        "Rewrite the sentence in the voice that the model should have.",
    ),
    "short_reply": _warning(
        _REPLIES,
        "Very short reply",
        "The reply is very short, also compared with the other replies of the file.",
        "Check that it is whole, and that the model should answer so briefly.",
    ),
    "long_reply": _warning(
        _REPLIES,
        "Very long reply",
        "The reply is many times as long as most replies of the file. It may be several texts run together, and it "
        "weighs as much as all that it outweighs: what is trained is counted by tokens.",
        "Check where it should end; shorten or split it.",
    ),
    "repeated_opening": _warning(
        _REPLIES,
        "Many replies begin alike",
        "A large share of the replies begins with the same words. The model will begin so nearly always.",
        "Vary the openings, unless the phrase is wanted.",
    ),
    "other_language": _warning(
        _REPLIES,
        "Reply in another language",
        "The reply is in another language than nearly all others of the file.",
        "Remove it, or keep it where the model should speak that language.",
    ),
    "second_language": _warning(
        _REPLIES,
        "Several languages",
        "A good part of the replies is in a second language. A model learns to mix them where the question does not "
        "decide between them.",
        "Make sure that each reply is in the language that it is asked in, or train one model for each language.",
    ),
    "secret": _warning(
        _SENSITIVE,
        "Secret",
        "The text holds a password, a key or a token. A trained model can give it away to anybody who asks. It is "
        "shown masked here and wherever the finding is exported.",
        "Take it out of service where it is real, and replace it by a placeholder that is none of a template.",
    ),
    "payment_card": _warning(
        _SENSITIVE,
        "Payment card number",
        "The text holds the number of a payment card: the range is one that is issued and the check digit is right.",
        "Remove the number.",
    ),
    "bank_account": _warning(
        _SENSITIVE,
        "Bank account number",
        "The text holds an IBAN: country, length and check digits are right.",
        "Remove the number.",
    ),
    "social_security_number": _warning(
        _SENSITIVE,
        "Social security number",
        "The text holds a number of the form and the range of US social security numbers.",
        "Remove the number.",
    ),
    "email_address": _warning(
        _SENSITIVE,
        "E-mail address",
        "The text holds an e-mail address that does not belong to the domains reserved for examples. A model may "
        "repeat it, or send people there.",
        "Remove it, or use one at example.com, unless it is your own and the model should name it.",
    ),
    "phone_number": _warning(
        _SENSITIVE,
        "Phone number",
        "The text holds a phone number that is not one of those reserved for examples. A model may repeat it, or a "
        "wrong one like it.",
        "Remove it, or use one like 555-0100, unless it is your own and the model should name it.",
    ),
}
