"""The GPU catalogue: what training can run on, from a file that its owner can edit."""

import tomllib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from brightrun.errors import ConfigurationError, InvalidInputError
from brightrun.settings import Settings
from brightrun.training.executors.devices import local_gpus

SHIPPED = Path(__file__).with_name("gpu_catalogue.toml")
LOCAL_CPU, LOCAL_GPU = "local-cpu", "local-gpu"


@dataclass(frozen=True)
class GpuEntry:
    """One line of the catalogue.

    kind: `cpu` hides all GPUs from the trainer. executor: "" when nothing that is installed can run a job there.
    price_per_gpu_hour_usd: of one device. tokens_per_s: of one device, padding aside, for the documented estimate.
    startup_s, per_epoch_s, saving_s, storage_usd: the fixed parts of that estimate. memory_gib: None where unknown.
    """

    id: str
    title: str
    kind: Literal["cpu", "cuda"]
    executor: str
    price_per_gpu_hour_usd: Decimal
    tokens_per_s: Decimal
    max_count: int
    startup_s: Decimal
    per_epoch_s: Decimal
    saving_s: Decimal
    storage_usd: Decimal
    source: str
    memory_gib: float | None = None

    @property
    def unavailable(self) -> str | None:
        """Why no job can run there now, as a sentence; None when one can."""
        if not self.executor:
            return (
                f"No provider of {self.title} is connected. If this machine has such a card, set "
                'executor = "local" for it in your own GPU catalogue (BRIGHTRUN_GPU_CATALOGUE).'
            )
        if self.executor != "local":
            return f"The catalogue gives {self.id} to the executor {self.executor!r}; this version knows `local`."
        return None

    def frozen(self, count: int) -> dict[str, Any]:
        """What a job keeps of it."""
        return {
            "type": self.id,
            "count": count,
            "kind": self.kind,
            "title": self.title,
            "price_per_gpu_hour_usd": str(self.price_per_gpu_hour_usd),
            "tokens_per_s": float(self.tokens_per_s),
        }


class Catalogue:
    """Entries by id, in the order of the file."""

    def __init__(self, entries: list[GpuEntry], path: Path) -> None:
        self.entries = {entry.id: entry for entry in entries}
        self.path = path

    def get(self, gpu_type: str) -> GpuEntry:
        """Raises InvalidInputError that lists what there is."""
        entry = self.entries.get(gpu_type)
        if entry is None:
            raise InvalidInputError(
                f"There is no {gpu_type!r} in the GPU catalogue",
                code="validation_error",
                details={"gpu_config.type": [f"one of: {', '.join(self.entries)}"]},
            )
        return entry

    def default(self) -> GpuEntry:
        """This machine's GPU where it has one, else its processor, else the file's first entry."""
        wanted = LOCAL_GPU if local_gpus() else LOCAL_CPU
        return self.entries.get(wanted) or next(iter(self.entries.values()))


def load_catalogue(settings: Settings) -> Catalogue:
    """Read the catalogue, each time: an edit counts at once. Raises ConfigurationError that names file and field."""
    path = settings.gpu_catalogue or SHIPPED
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The GPU catalogue {path} cannot be read: {error}") from error
    rows = content.get("gpu")
    if not isinstance(rows, list) or not rows:
        raise ConfigurationError(f"The GPU catalogue {path} has no [[gpu]] entry")
    entries = [_entry(row, path, number) for number, row in enumerate(rows, start=1)]
    ids = [entry.id for entry in entries]
    if len(set(ids)) != len(ids):
        raise ConfigurationError(f"The GPU catalogue {path} names {sorted(ids)} more than once")
    return Catalogue(entries, path)


def _entry(row: dict[str, Any], path: Path, number: int) -> GpuEntry:
    where = f"The GPU catalogue {path}, entry {number} ({row.get('id', 'without id')})"

    def amount(name: str, default: str, *, least: str = "0") -> Decimal:
        try:
            value = Decimal(str(row.get(name, default)))
        except InvalidOperation:
            raise ConfigurationError(f"{where}: {name} {row[name]!r} is not a number") from None
        if not value.is_finite() or value < Decimal(least) or value > 1_000_000:
            raise ConfigurationError(f"{where}: {name} {value} is not between {least} and 1000000")
        return value

    if not isinstance(row.get("id"), str) or not row["id"]:
        raise ConfigurationError(f"{where}: id is missing")
    kind = row.get("kind", "cuda")
    if kind not in {"cpu", "cuda"}:
        raise ConfigurationError(f"{where}: kind {kind!r} is neither cpu nor cuda")
    known = {*GpuEntry.__dataclass_fields__}
    if unknown := sorted(row.keys() - known):
        raise ConfigurationError(f"{where}: unknown fields {', '.join(unknown)}")
    return GpuEntry(
        id=row["id"],
        title=str(row.get("title", row["id"])),
        kind=kind,
        executor=str(row.get("executor", "")),
        price_per_gpu_hour_usd=amount("price_per_gpu_hour_usd", "0"),
        tokens_per_s=amount("tokens_per_s", "1000", least="1"),
        max_count=int(amount("max_count", "1", least="1")),
        startup_s=amount("startup_s", "600"),
        per_epoch_s=amount("per_epoch_s", "300"),
        saving_s=amount("saving_s", "300"),
        storage_usd=amount("storage_usd", "0.50"),
        source=str(row.get("source", "Your own catalogue.")),
        memory_gib=float(row["memory_gib"]) if "memory_gib" in row else None,
    )
