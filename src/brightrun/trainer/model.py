"""The base model with an adapter in it, and the loss over trained positions only."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.formats.run import BaseModelRef
from brightrun.trainer import quantization
from brightrun.trainer.data import Example
from brightrun.trainer.outcomes import bad_configuration

# On a CPU with bf16 products a step is 1.1 times as fast at width 64, 1.5 at 256, 1.9 at 1,024 (measured, one thread).
# Narrow models stay exact: they are for trying things out, and should give the same numbers on every machine.
_BF16_CPU_HIDDEN = 256
_ONE_THREAD_HIDDEN = 256


@dataclass(frozen=True)
class Numerics:
    """Where and how a run computes. precision: of base weights and products; the adapter is always fp32."""

    device: torch.device
    precision: Literal["fp32", "bf16"]
    pad_id: int


@dataclass(frozen=True)
class Batch:
    """One forward pass. ids: int64 (rows, tokens), right-padded. positions: int64, flat indices into rows × tokens
    whose next token is trained; targets: int64, those next tokens; owners: int64, the row of each position.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    tokens: int
    """Without padding."""


def choose_device() -> torch.device:
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def choose_threads(default: int, hidden_size: int) -> int:
    """CPU threads for a model of this width, at most torch's `default` (a core each, or OMP_NUM_THREADS).

    A narrow model's products are too small to share: one thread is as fast, and far faster on a busy machine.
    A container's CPU quota counts too, which torch does not look at.
    """
    if hidden_size < _ONE_THREAD_HIDDEN:
        return 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):  # no such limit here
        return default
    return default if quota == "max" else max(1, min(default, round(int(quota) / int(period))))


def choose_precision(wanted: str, device: torch.device, hidden_size: int) -> Literal["fp32", "bf16"]:
    """What `auto` means here: bf16 where the device computes it natively and the model is large enough to gain."""
    if wanted == "bf16":
        return "bf16"
    if wanted == "fp32":
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_has_bf16()
    return "bf16" if native and hidden_size >= _BF16_CPU_HIDDEN else "fp32"


def _cpu_has_bf16() -> bool:
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except FileNotFoundError:  # not Linux: no bf16 by default
        return False
    return "avx512_bf16" in words or "amx_bf16" in words


def embedding_rows(model: Any) -> int:
    """How many different tokens the model knows."""
    return int(model.get_input_embeddings().weight.shape[0])


def load_base(
    ref: BaseModelRef, folder: Path, *, device: torch.device, precision: str, seed: int, four_bit: bool = False
) -> transformers.PreTrainedModel:
    """The untouched base model, frozen, on `device`. Code from the model's folder is never run.

    four_bit: its linear layers (but the output head) in NF4; check `quantization.require` before.
    Raises TrainerStop (64) when the weights are incomplete, pickled without leave, or not a causal language model's.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    more = quantization.nf4(dtype, device) if four_bit else {}
    model: transformers.PreTrainedModel
    try:
        if ref.kind == "builtin" and ref.name == "tiny-random":  # a configuration only
            model = _from_seed(folder, dtype, seed)
            if four_bit:  # weights are put into 4 bits as they are read from a file
                with tempfile.TemporaryDirectory() as made:
                    model.save_pretrained(made)
                    model = _from_weights(ref, Path(made), dtype, **more)
        else:
            model = _from_weights(ref, folder, dtype, **more)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise bad_configuration(
            f"Cannot load the base model {ref.name} from {folder}: {error}",
            code="base_model_unusable",
            advice="It must be a model that transformers' AutoModelForCausalLM loads without code of its own.",
        ) from error
    model.requires_grad_(False)
    if not four_bit:  # those are on their device already, and do not move
        model.to(device)  # type: ignore[arg-type]
    return model


def _from_seed(folder: Path, dtype: torch.dtype, seed: int) -> Any:
    """Weights by chance, the same for the same seed."""
    auto: Any = transformers.AutoModelForCausalLM
    torch.manual_seed(seed)
    return auto.from_config(transformers.AutoConfig.from_pretrained(folder, local_files_only=True), dtype=dtype)


def _from_weights(ref: BaseModelRef, folder: Path, dtype: torch.dtype, **more: Any) -> Any:
    auto: Any = transformers.AutoModelForCausalLM
    model, info = auto.from_pretrained(
        folder,
        dtype=dtype,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=None if ref.allow_pickle else True,
        output_loading_info=True,
        **more,
    )
    # transformers fills missing weights with random numbers and only logs it.
    lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if lacking:
        raise bad_configuration(
            f"The weights in {folder} are incomplete: {len(lacking)} tensors are missing or of the wrong shape, "
            f"first {lacking[0]}.",
            code="base_model_incomplete",
            advice="Fetch the model again.",
        )
    return model


def add_adapter(model: Any, hp: Hyperparameters, *, name: str) -> PeftModel:
    """A fresh adapter on `model`, its first values from the seed. fp32, whatever the base is in."""
    torch.manual_seed(hp.seed)
    config = LoraConfig(
        r=hp.rank,
        lora_alpha=int(hp.alpha) if hp.alpha == int(hp.alpha) else hp.alpha,  # type: ignore[arg-type]
        lora_dropout=hp.dropout,
        target_modules=hp.target_modules,
        use_rslora=hp.method == "rslora",
        use_dora=hp.method == "dora",
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        peft_model = get_peft_model(model, config)
    except ValueError as error:
        raise bad_configuration(
            f"target_modules {hp.target_modules!r} does not fit this base model: {error}", code="target_modules"
        ) from error
    assert isinstance(peft_model, PeftModel)
    peft_model.peft_config["default"].base_model_name_or_path = name
    if hp.activation_checkpointing:
        # Both names exist in one transformers release or another; both also let gradients through the frozen embedding.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return peft_model


def collate(examples: Sequence[Example], numerics: Numerics) -> Batch:
    """Right-pad a micro-batch and note where its trained tokens are."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), numerics.pad_id, dtype=torch.int64)
    positions, targets, owners = [], [], []
    for row, example in enumerate(examples):
        tokens = torch.from_numpy(example.ids).to(torch.int64)
        ids[row, : len(tokens)] = tokens
        trained = torch.from_numpy(example.trained).nonzero().squeeze(1)
        positions.append(trained - 1 + row * longest)  # a token is predicted at the one before it
        targets.append(tokens[trained])
        owners.append(torch.full_like(trained, row))
    device = numerics.device
    return Batch(
        ids=ids.to(device),
        positions=torch.cat(positions).to(device),
        targets=torch.cat(targets).to(device),
        owners=torch.cat(owners).to(device),
        tokens=sum(len(example.ids) for example in examples),
    )


class TrainedHead:
    """Lets only chosen positions through the output head: logits (positions, vocabulary) instead of all.

    A hook in front of the head works for every architecture and keeps what a model does to its logits afterwards.
    """

    def __init__(self, model: Any) -> None:
        head = model.get_output_embeddings()
        if head is None:
            raise bad_configuration(f"{type(model).__name__} has no output head: not a causal language model.")
        self._positions: torch.Tensor | None = None
        head.register_forward_pre_hook(self._select)

    @contextlib.contextmanager
    def only(self, positions: torch.Tensor) -> Iterator[None]:
        self._positions = positions
        try:
            yield
        finally:
            self._positions = None

    def _select(self, _head: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._positions is None:
            return None
        hidden = args[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._positions), *args[1:])


def token_losses(model: PeftModel, head: TrainedHead, batch: Batch, numerics: Numerics) -> torch.Tensor:
    """Cross-entropy of every trained token, fp32, shape (positions,), in nats.

    No attention mask: padding stands right of every real token, where causal attention never looks, and its
    positions are not among those read. That is exact, and keeps the fast causal kernel.
    """
    bf16 = numerics.precision == "bf16"
    with head.only(batch.positions), torch.autocast(numerics.device.type, torch.bfloat16, enabled=bf16):
        logits = model(input_ids=batch.ids, use_cache=False).logits
    return F.cross_entropy(logits.float(), batch.targets, reduction="none")
