"""Speed changes no number: rows of one pass know nothing of each other, and every step's loss is the textbook's."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import transformers
from peft import LoraConfig, get_peft_model
from trainer_runs import Run

from brightrun.formats.base_models import BUILTIN
from brightrun.formats.chat import IGNORED, ChatTokenizer
from brightrun.formats.reader import read_records
from brightrun.formats.records import Record
from brightrun.trainer.batches import Order
from brightrun.trainer.data import Example
from brightrun.trainer.loop import learning_rate
from brightrun.trainer.model import Batch, Numerics, TrainedHead, collate

SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = SMALL | {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}
ARCHITECTURES = {
    "llama": lambda: transformers.LlamaConfig(**WIDE),
    "qwen3": lambda: transformers.Qwen3Config(**WIDE),
    "gemma3": lambda: transformers.Gemma3TextConfig(**WIDE, sliding_window=16),
    "mistral": lambda: transformers.MistralConfig(**WIDE, sliding_window=16),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=128),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(seed: int = 0) -> list[Example]:
    """Rows of very different lengths, every token of which is trained but the first."""
    rng = np.random.default_rng(seed)
    made = []
    for number, length in enumerate([3, 70, 18, 41, 70, 5]):
        ids = rng.integers(1, 300, length).astype(np.int32)
        made.append(Example(f"c{number}", number + 1, ids, np.arange(length) > 0))
    return made


def logits(model: Any, head: TrainedHead, batch: Batch, *, bf16: bool = False) -> torch.Tensor:
    with torch.no_grad(), head.only(batch.positions), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found: torch.Tensor = model(input_ids=batch.ids, use_cache=False).logits
    return found.float()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 2e-2)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_one_pass_give_the_logits_that_each_gives_alone(
    architecture: str, precision: str, tolerance: float
) -> None:
    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_config(ARCHITECTURES[architecture](), dtype=dtype).eval()
    head = TrainedHead(model)
    numerics = Numerics(torch.device("cpu"), precision, pad_id=0)  # type: ignore[arg-type]
    bf16 = precision == "bf16"
    together = collate(rows(), numerics)
    batched = logits(model, head, together, bf16=bf16)
    for number, row in enumerate(rows()):
        alone = logits(model, head, collate([row], numerics), bf16=bf16)
        difference = (batched[together.owners == number] - alone).abs().max() / alone.abs().max()
        assert float(difference) < tolerance


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_another_neighbour_and_another_padding_change_nothing_in_a_row(architecture: str) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(ARCHITECTURES[architecture](), dtype=torch.float32).eval()
    head = TrainedHead(model)
    first, other = rows(0), rows(1)
    neighbours = collate([first[2], first[1]], Numerics(torch.device("cpu"), "fp32", pad_id=0))
    strangers = collate([first[2], other[1]], Numerics(torch.device("cpu"), "fp32", pad_id=7))
    one, two = (logits(model, head, batch)[batch.owners == 0] for batch in (neighbours, strangers))
    assert torch.equal(one, two)


def reference_losses(run: Run) -> list[float]:
    """The same steps as a short program of plain torch and PEFT takes them: one record at a time, fp32, full logits."""
    hp = run.config.hyperparameters
    folder = BUILTIN["tiny-random"]
    torch.manual_seed(hp.seed)
    config = transformers.AutoConfig.from_pretrained(folder)
    base = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    torch.manual_seed(hp.seed)
    model = get_peft_model(
        base, LoraConfig(r=hp.rank, lora_alpha=int(hp.alpha), target_modules="all-linear", task_type="CAUSAL_LM")
    )
    tokenizer = ChatTokenizer.from_folder(folder)
    held = set(run.config.split.heldout_ids)
    records = [r for r in read_records(run.path / run.config.data.file) if isinstance(r, Record)]
    encoded = [tokenizer.encode(record) for record in records if record.conversation_id not in held]
    order = Order(len(encoded), hp.batch_size, hp.seed)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=hp.weight_decay)
    total, losses = order.steps_per_epoch * hp.epochs, []
    for step in range(total):
        optimizer.param_groups[0]["lr"] = learning_rate(
            step, total=total, peak=hp.learning_rate, warmup_ratio=hp.warmup_ratio, schedule=hp.schedule
        )
        loss, count = torch.zeros(()), 0
        for index in order.step(step):
            ids, labels = torch.tensor([list(encoded[index].input_ids)]), torch.tensor(list(encoded[index].labels))
            found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            loss = loss + F.cross_entropy(found[:-1], labels[1:], ignore_index=IGNORED, reduction="sum")
            count += int((labels[1:] != IGNORED).sum())
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(parameters, hp.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()) / count)
    return losses


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 2e-2)])
def test_every_steps_loss_is_that_of_an_unbatched_run_over_the_same_records(
    precision: str, tolerance: float, make_run: Callable[..., Run], train_here: Callable[[Run], int]
) -> None:
    run = make_run("run", epochs=8, learning_rate=1e-2, rank=16, precision=precision)
    assert train_here(run) == 0
    told = {event["step"]: event["loss"] for event in run.of("metric")}
    expected = reference_losses(run)
    assert len(told) == len(expected) > 10
    assert expected[-1] < expected[0] - 0.5, "a run that learns nothing would prove nothing"
    assert all(math.isclose(told[step], loss, rel_tol=tolerance) for step, loss in enumerate(expected, start=1))
