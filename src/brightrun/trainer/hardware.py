"""What the machine is doing while it trains, for metric events. Nothing here is a hard dependency."""

import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch

_ASK_EVERY_S = 5.0
_NVML_EVERY_S = 1.0


class Hardware:
    """Resident memory and processor of this process; memory and utilisation of the GPU where there is one.

    A GPU's utilisation comes from NVML where its Python package is installed, else from `nvidia-smi`, asked now and
    then beside the training; where neither answers it is left out.
    """

    def __init__(self, device: torch.device) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent(None)  # begins the first interval
        self._device = device
        self._utilization: float | None = None
        self._next = 0.0
        self._stop = threading.Event()
        if device.type == "cuda":
            self._nvml = _has_nvml(device)
            self._total = torch.cuda.get_device_properties(device).total_memory
            if not self._nvml and shutil.which("nvidia-smi"):
                threading.Thread(target=self._watch, name="gpu", daemon=True).start()

    def sample(self) -> dict[str, Any]:
        """Since the last call: `rss_bytes`, `cpu_percent` (100: one core), on a GPU `gpu_bytes` (peak of this run's
        tensors), `gpu_total_bytes`, `gpu_percent` (share of time that it computed)."""
        found: dict[str, Any] = {
            "rss_bytes": self._process.memory_info().rss,
            "cpu_percent": round(self._process.cpu_percent(None), 1),
        }
        if self._device.type == "cuda":
            found["gpu_bytes"] = torch.cuda.max_memory_allocated()
            found["gpu_total_bytes"] = self._total
            if self._nvml and time.monotonic() >= self._next:  # asking takes longer than a short step may wait
                self._utilization = float(torch.cuda.utilization(self._device))
                self._next = time.monotonic() + _NVML_EVERY_S
            if self._utilization is not None:
                found["gpu_percent"] = self._utilization
        return found

    def close(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        """Ask nvidia-smi until it no longer answers or the run is over."""
        uuid = f"GPU-{torch.cuda.get_device_properties(self._device).uuid}"
        while True:
            self._utilization = smi_utilization(uuid)
            if self._utilization is None or self._stop.wait(_ASK_EVERY_S):
                return


def smi_utilization(gpu: str) -> float | None:
    """Percent of the time that this GPU (its UUID or index) computed, by nvidia-smi; None where it cannot say."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", f"--id={gpu}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return float(answer.stdout.strip())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _has_nvml(device: torch.device) -> bool:
    try:
        torch.cuda.utilization(device)
    except Exception:  # noqa: BLE001  (no package, no library, no right to ask: all mean that it cannot say)
        return False
    return True


def peaks(device: torch.device) -> dict[str, int]:
    """`peak_rss_bytes`: the most that was resident of this process until now; on a GPU `peak_gpu_bytes`, of tensors."""
    found = {"peak_rss_bytes": _peak_resident()}
    if device.type == "cuda":
        found["peak_gpu_bytes"] = int(torch.cuda.max_memory_allocated())
    return found


def _peak_resident() -> int:
    """By the kernel's own mark, which a parent's memory does not reach into; where there is none, by `getrusage`."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):  # not Linux
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
