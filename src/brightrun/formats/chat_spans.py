"""Which characters of a rendered chat a model learns to write: found by rendering, for any template.

A template is a program; it may trim a message, drop the thinking of earlier turns, merge the system message into the
first user turn, or add text of its own. So nothing is assumed about how it writes a message. Instead the chat is
rendered again with a marker word in the place of each trained message, and the two texts are compared: what stands
between the same words before and the same words after the marker is what the template made of that message. If that
cannot be told for certain, the record gets an error, never a guess.
"""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from brightrun.formats.chat_errors import ChatError, TrainedSpanError

TemplateMessage = dict[str, Any]
# (messages, add_generation_prompt) → text
Render = Callable[[list[TemplateMessage], bool], str]

# Ends of a turn that calls a tool, in the templates that end such a turn in another way
_TOOL_TURN_ENDS = frozenset({"<|eom_id|>", "<|call|>"})


@dataclass(frozen=True, slots=True)
class TrainedSpan:
    """One trained message in a rendered chat.

    message: its index. start, end: character offsets; `end` is behind the end-of-turn token where there is one.
    ends_turn: whether the span includes an end-of-turn token.
    """

    message: int
    start: int
    end: int
    ends_turn: bool


class SpanFinder:
    """Finds trained spans for one template and tokenizer.

    render: for the probes, without tools. special: texts of the tokenizer's special tokens. stops: those of them that
    end generation.
    """

    def __init__(self, render: Render, special: Iterable[str], stops: Iterable[str]) -> None:
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._stops = frozenset(stops)
        self.generation_prompt = self._probe_generation_prompt(render)
        self.turn_ends = self._probe_turn_ends(render)

    def find(
        self, render: Render, messages: list[TemplateMessage], rendered: str, wanted: list[int]
    ) -> list[TrainedSpan]:
        """The spans of the messages `wanted`, in order. Raises TrainedSpanError; errors of the template pass through.

        rendered: `messages` rendered whole.
        """
        together = self._together(render, messages, rendered, wanted)
        spans = [together.get(i) or self._alone(render, messages, rendered, i) for i in wanted]
        for earlier, later in itertools.pairwise(spans):
            if later.start < earlier.end:
                raise _undetermined(messages, later.message, "it overlaps the one before")
        return spans

    def _together(
        self, render: Render, messages: list[TemplateMessage], rendered: str, wanted: list[int]
    ) -> dict[int, TrainedSpan]:
        """All plain text messages by one further rendering; {} when the template does not write them as they are."""
        plain = [i for i in wanted if messages[i].get("content") and not messages[i].get("tool_calls")]
        if not plain:
            return {}
        marker = _marker(rendered)
        marks = {i: f"{marker}{n}e" for n, i in enumerate(plain)}
        marked = [{**message, "content": marks[i]} if i in marks else message for i, message in enumerate(messages)]
        try:
            text = render(marked, False)
        except ChatError:
            return {}
        pieces = _between(text, list(marks.values()))
        if pieces is None:
            return {}
        bounds = _walk(rendered, pieces, [str(messages[i]["content"]) for i in plain])
        if bounds is None:
            return {}
        spans = {}
        for i, (start, end) in zip(plain, bounds, strict=True):
            stop, ends_turn = self._turn_end(rendered, end)
            spans[i] = TrainedSpan(i, self._start(render, messages, rendered, i, start), stop, ends_turn)
        return spans

    def _alone(self, render: Render, messages: list[TemplateMessage], rendered: str, i: int) -> TrainedSpan:
        """One message that calls tools, is empty, or is written in another form than it was given."""
        mark = f"{_marker(rendered)}e"
        head = tail = None
        try:
            text = render([*messages[:i], {"role": messages[i]["role"], "content": mark}, *messages[i + 1 :]], False)
        except ChatError:
            text = ""  # tool results without a call, for example: the prefixes below decide
        if text.count(mark) == 1:
            head, _, tail = text.partition(mark)
        prompt = _render_or_none(render, messages[:i], True)
        starts = [len(before) for before in (prompt, head) if before is not None and rendered.startswith(before)]
        if not self.generation_prompt:
            starts.reverse()  # a prompt without the assistant's header would count the header as trained
        if not starts:
            raise _undetermined(messages, i, "its beginning moves with its content")
        start = starts[0]
        if tail is not None and rendered.endswith(tail) and len(rendered) - len(tail) >= start:
            end, ends_turn = self._turn_end(rendered, len(rendered) - len(tail))
        else:
            upto = _render_or_none(render, messages[: i + 1], False)
            if upto is None or not rendered.startswith(upto) or len(upto) < start:
                raise _undetermined(messages, i, "its end moves with its content")
            end, ends_turn = self._last_turn_end(rendered, start, len(upto))
        _check_content(messages, i, rendered[start:end])
        return TrainedSpan(i, start, end, ends_turn)

    def _start(self, render: Render, messages: list[TemplateMessage], rendered: str, i: int, content_start: int) -> int:
        """Where the model takes over: behind the generation prompt, which is before the content or exactly at it."""
        prompt = self.generation_prompt
        if prompt and rendered.endswith(prompt, 0, content_start):
            return content_start
        before = _render_or_none(render, messages[:i], True)
        if before is None or not rendered.startswith(before) or len(before) > content_start:
            return content_start
        between = rendered[len(before) : content_start]
        # Without a generation prompt what lies between may be a header, which is not the model's to write
        return len(before) if prompt or not between.strip() else content_start

    def _turn_end(self, rendered: str, content_end: int) -> tuple[int, bool]:
        """End behind the end-of-turn token that follows the content, if one does."""
        found = self._special.match(rendered, _skip_space(rendered, content_end))
        if found and (found[0] in self.turn_ends or found[0] in _TOOL_TURN_ENDS):
            return found.end(), True
        return content_end, False

    def _last_turn_end(self, rendered: str, start: int, stop: int) -> tuple[int, bool]:
        """The first end-of-turn token in the run of special tokens and white space that closes `start:stop`."""
        found: list[re.Match[str]] = []
        edge = stop
        for token in reversed(list(self._special.finditer(rendered, start, stop))):
            if rendered[token.end() : edge].strip():
                break
            edge = token.start()
            found.insert(0, token)
        for token in found:
            if token[0] in self.turn_ends or token[0] in _TOOL_TURN_ENDS:
                return token.end(), True
        return start + len(rendered[start:stop].rstrip()), False

    def _probe_generation_prompt(self, render: Render) -> str:
        probe = [{"role": "user", "content": "Question"}]
        bare, prompted = _render_or_none(render, probe, False), _render_or_none(render, probe, True)
        if bare is None or prompted is None or not prompted.startswith(bare):
            return ""
        return prompted[len(bare) :]

    def _probe_turn_ends(self, render: Render) -> frozenset[str]:
        """Special tokens that end a turn: stop tokens, what closes the last answer, what closes every turn alike."""
        words = ["Question1", "Answer2", "Question3", "Answer4"]
        roles = ["user", "assistant"] * 2
        text = _render_or_none(render, [{"role": r, "content": w} for r, w in zip(roles, words, strict=True)], False)
        if text is None or any(text.count(word) != 1 for word in words):
            return self._stops
        after = {}
        for word in words:
            found = self._special.match(text, _skip_space(text, text.index(word) + len(word)))
            after[word] = found[0] if found else None
        ends = {after["Answer4"]}
        if after["Answer2"] == after["Question1"]:
            ends.add(after["Answer2"])
        return self._stops | {end for end in ends if end is not None}


def _marker(rendered: str) -> str:
    """A word that no text of this chat holds: letters and digits only, so that no template trims or splits it."""
    n = 0
    while (marker := f"BrightRunMarker{n}x") in rendered:
        n += 1
    return marker


def _between(text: str, marks: list[str]) -> list[str] | None:
    """The texts around the marks, one more than there are marks; None unless each occurs once, in order."""
    pieces, position = [], 0
    for mark in marks:
        found = text.find(mark, position)
        if found < 0 or text.count(mark) != 1:
            return None
        pieces.append(text[position:found])
        position = found + len(mark)
    return [*pieces, text[position:]]


def _walk(rendered: str, pieces: list[str], contents: list[str]) -> list[tuple[int, int]] | None:
    """Bounds of each content, when `rendered` is exactly piece, content, piece, …; contents may have been trimmed."""
    if not rendered.startswith(pieces[0]):
        return None
    ways: dict[int, list[tuple[int, int]]] = {len(pieces[0]): []}
    for content, piece in zip(contents, pieces[1:], strict=True):
        further: dict[int, list[tuple[int, int]]] = {}
        for position, bounds in ways.items():
            for form in _trimmed(content):
                end = position + len(form)
                if rendered.startswith(form, position) and rendered.startswith(piece, end):
                    further.setdefault(end + len(piece), [*bounds, (position, end)])
        ways = further
    return ways.get(len(rendered))


def _trimmed(content: str) -> list[str]:
    """The content as given, and the ways in which templates trim it."""
    forms = [
        content, content.strip(), content.rstrip(), content.lstrip(),
        content.strip("\n"), content.rstrip("\n"), content.lstrip("\n"),
    ]  # fmt: skip
    return list(dict.fromkeys(forms))


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _render_or_none(render: Render, messages: list[TemplateMessage], prompt: bool) -> str | None:
    try:
        return render(messages, prompt)
    except ChatError:
        return None


def _check_content(messages: list[TemplateMessage], i: int, region: str) -> None:
    """A last proof that the region is this message's: it holds its answer and the names of the tools it calls."""
    content = str(messages[i].get("content") or "").strip()
    answer = content.rpartition("</think>")[2].strip()  # templates may drop or move the thinking
    if answer and answer not in region:
        raise _undetermined(messages, i, "its text is not found where it should be")
    for call in messages[i].get("tool_calls") or []:
        name = (call.get("function") or call).get("name")
        if name and str(name) not in region:
            raise _undetermined(messages, i, f"its call of {name} is not found where it should be")


def _undetermined(messages: list[TemplateMessage], i: int, why: str) -> TrainedSpanError:
    return TrainedSpanError(
        f"Message {i + 1} ({messages[i]['role']}) cannot be labelled: the chat template rewrites it, and {why}. "
        "Leave it untrained (weight 0), change its text, or choose another base model or template."
    )
