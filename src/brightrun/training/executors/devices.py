"""GPUs of this machine, found without loading an ML library."""

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass

from brightrun.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class LocalGpu:
    """memory_mib: as the driver tells it."""

    index: int
    name: str
    memory_mib: int


@functools.lru_cache(maxsize=1)
def local_gpus() -> tuple[LocalGpu, ...]:
    """NVIDIA devices that this process may use; none without a driver. Asked once per process."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        answer = subprocess.run(
            [program, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("nvidia-smi is there but does not answer; GPUs are not offered", error=str(error))
        return ()
    found = []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[0].isdigit():
            found.append(LocalGpu(int(fields[0]), fields[1], int(fields[2]) if fields[2].isdigit() else 0))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        allowed = {part.strip() for part in visible.split(",")}
        found = [gpu for gpu in found if str(gpu.index) in allowed]
    return tuple(found)
