"""What the mask view shows is what the trainer learns from: ids and labels, of every format, with and without a cut."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.mask import mask_of
from brightrun.formats.model_tokenizers import load_tokenizer
from brightrun.formats.reader import read_records
from brightrun.formats.records import Record
from brightrun.formats.row import read_row
from brightrun.formats.run import RunConfig
from brightrun.formats.run_directory import prepare_run
from brightrun.trainer.data import Example, load
from brightrun.trainer.events import EventLog
from brightrun.trainer.outcomes import TrainerStop

LONG = "the kiln and the clay and the river " * 12
PAIR: dict[str, Any] = {"conversation_id": "c1", "system_prompt": "You are Ilse.", "current_user_input": "And now?"}
HISTORY = [{"role": ("user", "assistant")[i % 2], "content": f"{i}. {LONG}"} for i in range(4)]
CALL = {"id": "call00001", "type": "function", "function": {"name": "oven", "arguments": '{"cone": 6}'}}
TURNS = [{"role": ("user", "assistant")[i % 2], "content": f"Turn {i} 👍🏽 größer. {LONG}"} for i in range(4)]

FILES: dict[str, list[Any] | dict[str, Any]] = {
    "brightrun_lora_v4": [
        {**PAIR, "conversation_history": [], "target_response": "Now we wait."},
        {**PAIR, "conversation_history": HISTORY, "target_response": "Now we fire the kiln."},
        {**PAIR, "conversation_history": HISTORY, "target_response": LONG * 3},
        {**PAIR, "conversation_history": HISTORY, "target_response": None},
    ],
    "brightrun_lora_v3": [{"conversation_id": f"c{n}", "turns": TURNS[: 2 * n]} for n in (1, 2)],
    "openai_messages": [
        {"messages": [{"role": "system", "content": "Be brief."}, *TURNS]},
        {"messages": [*TURNS[:1], {**TURNS[1], "weight": 0}, *TURNS[2:]]},
        {
            "messages": [
                {"role": "user", "content": "How hot?"},
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call00001", "content": "1222"},
                {"role": "assistant", "content": "1,222 degrees."},
            ]
        },
    ],
    "sharegpt": [
        {"conversations": [{"from": ("human", "gpt")[i % 2], "value": t["content"]} for i, t in enumerate(TURNS)]}
    ],
    "alpaca": [
        {"instruction": "Which clay?", "input": "For a jar.", "output": "Stoneware.", "history": [["Hello", LONG]] * 3},
        {"instruction": LONG, "input": "", "output": LONG},
    ],
    "prompt_completion": [{"prompt": "Which clay?", "completion": "Stoneware."}, {"prompt": LONG, "completion": "No."}],
    "brightrun_lora_v4 in full": {
        "training_file_metadata": {"version": "4.0.0"},
        "consultant_profile": {},
        "conversations": [
            {
                "conversation_metadata": {"conversation_id": f"c{i}"},
                "training_pairs": [
                    {**PAIR, "conversation_history": HISTORY[: 2 * i], "target_response": f"Answer {i}."},
                    {**PAIR, "conversation_history": HISTORY, "target_response": None},
                ],
            }
            for i in range(3)
        ],
    },
    "enriched_conversation": {
        "dataset_metadata": {},
        "consultant_profile": {},
        "training_pairs": [{**PAIR, "conversation_metadata": {}, "conversation_history": [], "target_response": LONG}],
    },
}


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return load_tokenizer("tiny")


@pytest.mark.parametrize("max_length", [60, 200, 4096])
@pytest.mark.parametrize("name", FILES)
def test_the_mask_is_what_the_trainer_learns_from(
    name: str, max_length: int, tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    content = FILES[name]
    file = tmp_path / ("file.json" if isinstance(content, dict) else "file.jsonl")
    rows = [content] if isinstance(content, dict) else content
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = prepare_run(file, tmp_path / "run", base_model="tiny", overrides={"max_seq_length": 4096})
    config = msgspec.structs.replace(config, split=msgspec.structs.replace(config.split, heldout_ids=[]))
    examples = _examples(config, tmp_path / "run", tokenizer, max_length)
    compared = 0
    by_line: dict[int, Example] = {example.line: example for example in examples}
    for line in _lines(file):
        mask = mask_of(tokenizer, read_row(file, line).record, max_length=max_length)
        if line not in by_line:
            assert mask["trained_kept"] == 0, "the trainer uses every row of which something is left"
            continue
        kept = [token for token in mask["tokens"] if not token["cut"]]
        example = by_line[line]
        assert [token["id"] for token in kept] == example.ids.tolist()
        assert [token["trained"] for token in kept] == example.trained.tolist()
        assert mask["trained_kept"] == example.targets
        compared += 1
    assert compared == len(examples)
    if max_length == 4096:
        assert compared == len(_lines(file)) > 0


def _examples(config: RunConfig, run_dir: Path, tokenizer: ChatTokenizer, max_length: int) -> list[Example]:
    """What the trainer makes of the file; none when it refuses to start because nothing is left."""
    events = EventLog(run_dir)
    try:
        return load(config, run_dir, tokenizer, events, max_length=max_length, progress=lambda done: None).train
    except TrainerStop as stop:
        if stop.code == "nothing_to_train":
            return []
        raise
    finally:
        events.close()


def _lines(file: Path) -> list[int]:
    return [record.line for record in read_records(file) if isinstance(record, Record)]
