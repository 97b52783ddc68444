"""What a device can do, as the estimate needs it: memory, speed, and the name under which its record is kept."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import psutil

from brightrun.training.catalogue import LOCAL_GPU, GpuEntry
from brightrun.training.executors.devices import local_gpus

GIB = 1024**3


@dataclass(frozen=True)
class Machine:
    """id: machine type; finished jobs are kept under it. here: it is this very machine, which can be probed.

    cores: a CPU's. bf16: computed natively. flops: of large products in the training precision, a second, as reached
    and not as printed on the box. bytes_per_s: of memory, as reached. memory_bytes: None where it is not known.
    call_s: what one pass through one layer costs besides (launching kernels, Python). rented_start_s: until a rented
    machine is ready. source: in words.
    """

    id: str
    kind: Literal["cpu", "cuda"]
    here: bool
    cores: int
    bf16: bool
    flops: float
    bytes_per_s: float
    call_s: float
    memory_bytes: int | None
    rented_start_s: float
    source: str


# (part of a device's name, TFLOP/s of dense bf16 or fp16 products, GB/s of memory, bf16 natively): from the makers'
# data sheets. An estimate takes a share of both (`_REACHED`).
_GPUS: tuple[tuple[str, float, float, bool], ...] = (
    ("B200", 2250, 8000, True), ("H200", 989, 4800, True), ("H100", 989, 3350, True), ("GH200", 989, 4000, True),
    ("A100", 312, 1900, True), ("A6000", 155, 768, True), ("A40", 150, 696, True), ("A10", 125, 600, True),
    ("L40", 362, 864, True), ("L4", 121, 300, True), ("V100", 125, 900, False), ("T4", 65, 320, False),
    ("5090", 210, 1790, True), ("4090", 165, 1008, True), ("4080", 97, 717, True), ("3090", 71, 936, True),
)  # fmt: skip
_UNKNOWN_GPU = (60.0, 500.0, True)
_REACHED_FLOPS, _REACHED_BYTES = 0.35, 0.6


def machine_for(entry: GpuEntry) -> Machine:
    """The machine that a line of the catalogue stands for."""
    if entry.kind == "cpu":
        return this_cpu() if entry.executor == "local" else _cpu(entry.title, here=False)
    name, memory, here = f"{entry.id} {entry.title}", entry.memory_gib, False
    if entry.executor == "local":
        gpus = local_gpus()
        here = bool(gpus)
        if gpus and entry.id == LOCAL_GPU:
            name, memory = gpus[0].name, gpus[0].memory_mib / 1024 or memory
    known = next((rest for part, *rest in _GPUS if part in name), None)
    tflops, gb_per_s, bf16 = known or _UNKNOWN_GPU
    rented = entry.executor != "local"
    return Machine(
        id=f"cuda: {gpus[0].name}" if here and entry.id == LOCAL_GPU else f"cuda: {entry.id}",
        kind="cuda",
        here=here,
        cores=1,
        bf16=bool(bf16),
        flops=tflops * 1e12 * _REACHED_FLOPS,
        bytes_per_s=gb_per_s * 1e9 * _REACHED_BYTES,
        call_s=1.2e-3,
        memory_bytes=int(memory * GIB) if memory else None,
        rented_start_s=float(entry.startup_s) if rented else 0.0,
        source=(
            f"a share of the data sheet's {tflops:g} TFLOP/s and {gb_per_s:g} GB/s"
            if known
            else "an assumption for a mid-range card: this one is not in our table"
        ),
    )


@lru_cache(maxsize=1)
def this_cpu() -> Machine:
    """The processor of this machine. Its memory may be limited by a container, its cores by an affinity or a quota."""
    return _cpu(_cpu_name(), here=True)


def _cpu(name: str, *, here: bool) -> Machine:
    words = _cpu_words() if here else set()
    cores = _cores() if here else 4
    bf16 = bool(words & {"avx512_bf16", "amx_bf16"}) and "avx512f" in words
    wide = 2.0 if "avx512f" in words else 1.0
    return Machine(
        id=f"cpu: {name}, {cores} core{'s' if cores > 1 else ''}",
        kind="cpu",
        here=here,
        cores=cores,
        bf16=bf16,
        flops=30e9 * wide,
        bytes_per_s=6e9,
        call_s=1e-3,
        memory_bytes=_memory() if here else None,
        rented_start_s=0.0,
        source=f"typical figures of a processor core{' with AVX-512' if wide > 1 else ''}, not measured here",
    )


def _cores() -> int:
    """Threads that torch would take: physical cores, at most those that this process may use, or OMP_NUM_THREADS."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(allowed, psutil.cpu_count(logical=False) or allowed)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


def _memory() -> int:
    total = psutil.virtual_memory().total
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def _cpu_name() -> str:
    import platform

    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_words() -> set[str]:
    for line in _cpuinfo().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
