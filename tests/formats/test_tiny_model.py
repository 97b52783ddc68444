"""The built-in model is what its card says, and a LoRA on it learns something one can see."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pottery
import pytest

from brightrun.formats.base_models import BUILTIN, inspect_folder
from brightrun.formats.chat import IGNORED, ChatTokenizer, EncodedRecord
from brightrun.formats.records import Message

TINY, RANDOM = BUILTIN["tiny"], BUILTIN["tiny-random"]
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return json.loads((TINY / "pretraining.json").read_text())


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer.from_folder(TINY)


def load() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)


def test_the_shipped_files_are_the_recorded_ones(card: dict[str, Any]) -> None:
    assert set(card["sha256"]) >= {"model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json"}
    text = (TINY / "MODEL_CARD.md").read_text()
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((TINY / name).read_bytes()).hexdigest() == digest, name
        assert digest in text


def test_the_text_is_made_again_byte_for_byte(card: dict[str, Any]) -> None:
    program = (
        "from tiny_corpus import conversations, corpus_sha256; "
        f"print(corpus_sha256(list(conversations({card['corpus']['conversations']}, {card['seed']}))))"
    )
    made = subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == card["corpus"]["sha256"]


def test_it_is_small_and_whole(card: dict[str, Any]) -> None:
    facts = inspect_folder(TINY)
    assert 1_000_000 < (facts.parameters or 0) < 3_000_000
    assert (facts.dtype, facts.architectures) == ("bfloat16", ("LlamaForCausalLM",))
    assert (facts.max_positions or 0) >= 2_048
    assert facts.has_tokenizer
    assert facts.has_chat_template
    assert facts.parameters == card["parameters"]
    assert sum(f.stat().st_size for f in TINY.parent.rglob("*") if f.is_file()) < 6_000_000


def test_the_end_of_a_turn_is_the_end_of_the_sequence(tokenizer: ChatTokenizer) -> None:
    for folder in (TINY, RANDOM):
        generation = json.loads((folder / "generation_config.json").read_text())
        config = json.loads((folder / "config.json").read_text())
        assert generation["eos_token_id"] == config["eos_token_id"] == tokenizer.eos_id
        assert config["pad_token_id"] == tokenizer.pad_id != tokenizer.eos_id
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.vocab_size >= 4_000


def test_tiny_random_has_the_same_tokenizer_and_no_weights() -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (RANDOM / name).read_bytes() == (TINY / name).read_bytes()
    assert inspect_folder(RANDOM).weight_files == ()


FACTS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Kenya?": "The capital of Kenya is Nairobi.",
    "Which language do people speak in Brazil?": "In Brazil people speak Portuguese.",
    "What is the opposite of calm?": "The opposite of calm is restless.",
    "What is the opposite of narrow?": "The opposite of narrow is wide.",
    "What day comes after Monday?": "The day after Monday is Tuesday.",
    "Where does the bat live?": "The bat lives in caves, roofs and hollow trees.",
    "What does a camel eat?": "A camel eats thorny plants and dry grass.",
    "What is a whisk for?": "You use a whisk to beat air into eggs or cream.",
    "How much light does a basil need?": "A basil likes a bright window.",
}


def test_it_answers_what_it_has_read_and_stops(tokenizer: ChatTokenizer) -> None:
    import torch

    model, right = load(), 0
    for question, answer in FACTS.items():
        ids = torch.tensor([tokenizer.encode_prompt([Message("user", question)]).tolist()])
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False)
        text = tokenizer.decode(written[0, ids.shape[1] :].tolist(), skip_special_tokens=False)
        assert text.endswith("<|im_end|>"), text
        right += text == f"{answer}<|im_end|>"
    assert right >= 7


def _loss(model: Any, examples: list[EncodedRecord], pad: int) -> tuple[Any, int]:
    """(summed loss, trained tokens) of one padded batch."""
    import torch

    width = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), width), pad)
    labels = torch.full((len(examples), width), IGNORED)
    for row, example in enumerate(examples):
        ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids.tolist())
        labels[row, : len(example.labels)] = torch.tensor(example.labels.tolist())
    logits = model(input_ids=ids).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    return loss, int((labels[:, 1:] != IGNORED).sum())


def test_a_lora_on_forty_conversations_of_a_new_domain_lowers_heldout_loss(tokenizer: ChatTokenizer) -> None:
    import random

    import torch
    from peft import LoraConfig, get_peft_model

    records = pottery.conversations()
    heldout = [r for r in records if r.conversation_id.split("-")[1] in ("3", "8")]  # two faults never seen in training
    train = [tokenizer.encode(r) for r in records if r not in heldout]
    held = [tokenizer.encode(r) for r in heldout]
    assert len(train) == 40
    torch.manual_seed(0)
    model = get_peft_model(load(), LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))

    def heldout_loss() -> float:
        with torch.no_grad():
            total, count = _loss(model, held, tokenizer.pad_id)
        return float(total) / count

    base = heldout_loss()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4, weight_decay=0.0)
    rng = random.Random(0)
    for _ in range(50):
        total, count = _loss(model, rng.sample(train, 4), tokenizer.pad_id)
        (total / count).backward()
        optimiser.step()
        optimiser.zero_grad()
    adapter = heldout_loss()
    assert adapter < base - 0.5, f"held-out loss {base:.3f} without, {adapter:.3f} with the adapter"
