"""One training run by a peer, in the peer's own environment; `train.py` starts it. Prints one JSON object.

    PYTHON benchmarks/train_peers.py WHICH FOLDER --model MODEL --data FILE

WHICH: `trl`, `trl-packing`, `trl-grouped`, `transformers-grouped`. LLaMA-Factory is started by its own command.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

STARTED = time.time()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("which")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--pack", type=int, required=True, help="length of a packed row; two of them are a step")
    parser.add_argument("--assistant-only", action="store_true")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in Path(arguments.data).read_text(encoding="utf-8").splitlines()]
    train = transformers_trainer if arguments.which.startswith("transformers") else trl
    trainer = train(arguments, rows)
    times: list[float] = []
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *_args: Any, **_named: Any) -> None:
            times.append(time.time())

    trainer.add_callback(Clock())
    began = time.time()
    trainer.train()
    ended = time.time()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(
        json.dumps(
            {
                "seconds": ended - began,
                "to_first_step": times[0] - STARTED,
                "total": ended - STARTED,
                "steps": len(times),
                "losses": losses,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def common(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(arguments.folder),
        "num_train_epochs": arguments.epochs,
        "per_device_train_batch_size": arguments.batch,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "seed": 7,
        "use_cpu": True,
        "disable_tqdm": True,
    }


def trl(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> Any:
    """At its defaults (bf16, activation checkpointing), or with what makes it fastest."""
    from trl import SFTConfig, SFTTrainer

    from datasets import Dataset

    settings = common(arguments) | {"max_length": arguments.length, "assistant_only_loss": arguments.assistant_only}
    if arguments.which != "trl":
        settings |= {"gradient_checkpointing": False}
    if arguments.which == "trl-packing":
        settings |= {"packing": True, "max_length": arguments.pack, "per_device_train_batch_size": 2}
    if arguments.which == "trl-grouped":
        settings |= {"train_sampling_strategy": "group_by_length"}
    data = Dataset.from_list([{"messages": row["messages"]} for row in rows])
    return SFTTrainer(model=arguments.model, args=SFTConfig(**settings), train_dataset=data, peft_config=lora())


def transformers_trainer(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> Any:
    """Without TRL: rows of one length together, loss on all tokens, or on those that the template marks."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    from datasets import Dataset

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    examples = []
    for row in rows:
        made = tokenizer.apply_chat_template(
            row["messages"], return_dict=True, return_assistant_tokens_mask=True, truncation=True,
            max_length=arguments.length,
        )  # fmt: skip
        ids, mask = made["input_ids"], made["assistant_masks"]
        labels = [
            token if keep or not arguments.assistant_only else -100 for token, keep in zip(ids, mask, strict=True)
        ]
        examples.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, "length": len(ids)})
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32), lora())
    settings = common(arguments) | {
        "train_sampling_strategy": "group_by_length",
        "bf16": True,
        "gradient_checkpointing": False,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=Dataset.from_list(examples),
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    )


if __name__ == "__main__":
    main()
