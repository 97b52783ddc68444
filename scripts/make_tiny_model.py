"""Make BrightRun's built-in base model `tiny` (and the configuration of `tiny-random`): recorded and seeded.

    python scripts/make_tiny_model.py            # 15 minutes on two free CPU cores, 35 on busy ones
    python scripts/make_tiny_model.py --steps 20 --out /tmp/tiny   # a quick look

Text: `scripts/tiny_corpus.py`. Tokenizer: byte-level BPE, trained on that text. Weights: a Llama-style model, trained
from scratch on the same text in chat form, every token counted. What was made, from what, with which versions and
which loss stands in MODEL_CARD.md and pretraining.json beside the weights. The text and the tokenizer are the same bytes
on every machine; weights differ in the last bits between CPUs, which is why the shipped ones are recorded by hash.
"""

# ruff: noqa: E501 - the model card below is text in long lines
import argparse
import hashlib
import json
import math
import os
import platform
import random
import shutil
import time
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"  # BPE training counts pairs in threads; one thread keeps ties in one order
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers
import torch
import transformers
from tiny_corpus import Conversation, conversations, corpus_sha256
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parent.parent
BUILTIN = ROOT / "src" / "brightrun" / "formats" / "builtin"
TEMPLATE = ROOT / "assets" / "tiny" / "chat_template.jinja"

SEED = 7
CONVERSATIONS = 12_000
VOCABULARY = 4_096
HELD_OUT = 200
NONSENSE = 600
CONTEXT = 4_096
PAD, TURN_START, TURN_END = "<|pad|>", "<|im_start|>", "<|im_end|>"
TOOL_TOKENS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
# Words with their leading space, numbers in groups of at most three digits, punctuation, white space.
PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

SHAPE: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
RANDOM_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
# (share of the steps, tokens a sequence, sequences a step): short sequences first, then long ones, so that the rotary
# positions up to 2,048 have been seen.
PHASES = [(0.94, 512, 4), (0.06, 2_048, 1)]
STEPS = 1_800
LEARNING_RATE = 2e-3
WARMUP = 50


def train_tokenizer(talks: list[Conversation]) -> Tokenizer:
    """Byte-level BPE with VOCABULARY entries; the special tokens come first, so that their ids never move."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[
            AddedToken(PAD, special=True),
            AddedToken(TURN_START, special=True),
            AddedToken(TURN_END, special=True),
            *(AddedToken(token, special=True) for token in TOOL_TOKENS),
        ],
    )
    tokenizer.train_from_iterator((m["content"] for talk in talks for m in talk), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"The text gives only {tokenizer.get_vocab_size()} of {VOCABULARY} entries: write more of it.")
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json and chat_template.jinja, as transformers 4.46+ and 5 read them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "pad_token": PAD,
        "extra_special_tokens": [TURN_START, *TOOL_TOKENS],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")


def model_config(tokenizer: Tokenizer, shape: dict[str, Any]) -> LlamaConfig:
    """The Llama-style configuration of either model."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(TURN_END),
        pad_token_id=tokenizer.token_to_id(PAD),
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
        **shape,
    )


def nonsense(tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    """A turn of tokens drawn at random: from these the model learns to be unsure where it has read nothing.

    Without them it is confidently wrong on any text of another kind (11 nats a token, more than a uniform guess).
    """
    role = rng.choice(["system", "user", "assistant"])
    start, end = tokenizer.encode(f"{TURN_START}{role}\n").ids, tokenizer.encode(f"{TURN_END}\n").ids
    first_ordinary = len([PAD, TURN_START, TURN_END, *TOOL_TOKENS])
    return [*start, *(rng.randrange(first_ordinary, VOCABULARY) for _ in range(rng.randint(10, 90))), *end]


def packs(encoded: list[list[int]], length: int, rng: random.Random) -> list[list[int]]:
    """Whole conversations in random order, laid end to end; each pack starts with the start of one."""
    order = list(encoded)
    rng.shuffle(order)
    result, current = [], []
    for ids in order:
        current += ids
        if len(current) > length:
            result.append(current[: length + 1])
            current = []
    return result


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Mean loss per token; batch: (sequences, tokens + 1)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=model.training):
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


@torch.no_grad()
def heldout_loss(model: LlamaForCausalLM, encoded: list[list[int]]) -> float:
    """Mean loss per token over conversations that were not trained on, each by itself."""
    total, count = 0.0, 0
    for ids in encoded:
        batch = torch.tensor([ids])
        total += float(loss_of(model, batch)) * (len(ids) - 1)
        count += len(ids) - 1
    return total / count


def pretrain(
    config: LlamaConfig, train: list[list[int]], heldout: list[list[int]], steps: int
) -> tuple[Any, dict[str, Any]]:
    """Train from scratch; returns the model and the record of the run."""
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    rng = random.Random(SEED)
    model = LlamaForCausalLM(config).float()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(0.9, 0.95),
    )
    model.train()
    curve, step, tokens, started = [], 0, 0, time.monotonic()
    for share, length, sequences in PHASES:
        last = steps if share == PHASES[-1][0] else round(steps * share)
        queue: list[list[int]] = []
        while step < last:
            if len(queue) < sequences:
                queue = packs(train, length, rng)
            batch = torch.tensor([queue.pop() for _ in range(sequences)])
            warm = min(1.0, (step + 1) / WARMUP)
            rate = LEARNING_RATE * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            step, tokens = step + 1, tokens + batch.numel()
            if step % 100 == 0 or step == 1:
                curve.append({"step": step, "loss": round(float(loss.detach()), 4)})
                print(
                    f"step {step:4d}  loss {float(loss.detach()):.3f}  {tokens / (time.monotonic() - started):,.0f} tokens/s",
                    flush=True,
                )
    record = {
        "steps": steps,
        "tokens": tokens,
        "seconds": round(time.monotonic() - started),
        "loss_curve": curve,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    model = model.to(torch.bfloat16)
    record["heldout_loss"] = round(heldout_loss(model.float().eval(), heldout), 4)
    return model.to(torch.bfloat16), record


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BUILTIN)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    tiny, tiny_random = arguments.out / "tiny", arguments.out / "tiny_random"

    talks = list(conversations(CONVERSATIONS, SEED))
    tokenizer = train_tokenizer(talks)
    for folder in (tiny, tiny_random):
        write_tokenizer(tokenizer, folder)
    model_config(tokenizer, RANDOM_SHAPE).save_pretrained(tiny_random)
    generation = GenerationConfig(eos_token_id=tokenizer.token_to_id(TURN_END), pad_token_id=tokenizer.token_to_id(PAD))
    generation.save_pretrained(tiny_random)

    chat = AutoTokenizer.from_pretrained(tiny)
    texts = [chat.apply_chat_template(talk, tokenize=False) for talk in talks]
    distinct = sorted(set(texts))
    random.Random(SEED).shuffle(distinct)
    unseen = set(distinct[:HELD_OUT])
    # Repeated short answers stay repeated: they are the facts that the model is meant to know by heart
    train = [chat(text, add_special_tokens=False)["input_ids"] for text in texts if text not in unseen]
    heldout = [chat(text, add_special_tokens=False)["input_ids"] for text in distinct[:HELD_OUT]]
    rng = random.Random(SEED)
    train += [nonsense(tokenizer, rng) for _ in range(NONSENSE)]
    print(f"{len(distinct)} distinct conversations, {sum(map(len, train)):,} training tokens", flush=True)

    model, record = pretrain(model_config(tokenizer, SHAPE), train, heldout, arguments.steps)
    model.generation_config = generation
    model.save_pretrained(tiny)
    (tiny / "model.safetensors").chmod(0o644)
    record |= {
        "seed": SEED,
        "corpus": {
            "conversations": CONVERSATIONS,
            "distinct": len(distinct),
            "characters": sum(map(len, texts)),
            "train_tokens": sum(map(len, train)),
            "nonsense_turns": NONSENSE,
            "heldout_conversations": len(heldout),
            "sha256": corpus_sha256(talks),
        },
        "phases": [{"share": s, "tokens": n, "sequences": b} for s, n, b in PHASES],
        "learning_rate": LEARNING_RATE,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "sha256": {
            p.name: sha256(p)
            for p in sorted(tiny.iterdir())
            if p.suffix in (".json", ".jinja", ".safetensors") and p.name != "pretraining.json"
        },
    }
    (tiny / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (tiny / "MODEL_CARD.md").write_text(card(record), encoding="utf-8")
    print(f"held-out loss {record['heldout_loss']}; written to {arguments.out}")


def card(record: dict[str, Any]) -> str:
    """MODEL_CARD.md from the record."""
    corpus, shape = record["corpus"], SHAPE
    curve = "\n".join(
        f"| {point['step']} | {point['loss']:.3f} |"
        for point in record["loss_curve"]
        if point["step"] == 1 or point["step"] % 200 == 0
    )
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    hashes = "\n".join(f"| `{name}` | `{value}` |" for name, value in record["sha256"].items())
    return f"""# tiny

A very small language model, made for BrightRun so that everything runs offline, on a CPU, in seconds, and a LoRA adapter
has something to learn. It knows short English conversations of a few kinds and nothing else: use it to try the platform,
never to answer people.

| | |
|---|---|
| Architecture | Llama: {shape["num_hidden_layers"]} layers, hidden {shape["hidden_size"]}, {shape["num_attention_heads"]} heads ({shape["num_key_value_heads"]} for keys and values), tied embeddings |
| Parameters | {record["parameters"]:,}, stored as bfloat16 |
| Tokenizer | byte-level BPE, {VOCABULARY:,} entries; end of turn `{TURN_END}` is also the end of sequence, padding `{PAD}` is a token of its own |
| Context | {CONTEXT:,} positions, trained up to {PHASES[-1][1]:,} |
| Text | {corpus["conversations"]:,} conversations ({corpus["distinct"]:,} distinct, {corpus["characters"]:,} characters) written by `scripts/tiny_corpus.py` from the grammars in `assets/tiny/grammar`, seed {record["seed"]}, SHA-256 `{corpus["sha256"]}`; and {corpus["nonsense_turns"]} turns of random tokens, so that it is unsure about what it has not read |
| Training | {record["steps"]} steps, {record["tokens"]:,} tokens, AdamW, peak learning rate {record["learning_rate"]}, cosine, bfloat16 autocast; {record["seconds"]} s on {record["machine"]} |
| Held-out loss | {record["heldout_loss"]:.3f} nats a token over {corpus["heldout_conversations"]} conversations that were not trained on (same grammars) |
| Made by | `python scripts/make_tiny_model.py`; {versions} |
| Licence | Apache-2.0, text included |

## Loss

| step | training loss |
|---|---|
{curve}

## Files

| file | SHA-256 |
|---|---|
{hashes}

The same seed gives the same text and tokenizer on every machine; weights agree up to rounding, so the shipped ones are
known by the hashes above. `pretraining.json` is this record for programs.
"""


if __name__ == "__main__":
    main()
