"""Environment variables that must be there before the process starts; it starts itself once more with them."""

import os
import sys

_MARK = "BRIGHTRUN_TRAINER_ENVIRONMENT"
_MIB = 1024 * 1024

ENVIRONMENT = {
    # glibc gives freed activations back to the kernel and faults them in again at every step: a tenth of the time.
    "MALLOC_TRIM_THRESHOLD_": str(16 * 1024 * _MIB),
    "MALLOC_MMAP_THRESHOLD_": str(1024 * _MIB),
    # Waiting threads sleep instead of spinning: on a busy machine a small step is else ten times slower (measured).
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    # Sets keep their order from one attempt to the next.
    "PYTHONHASHSEED": "0",
    # cuBLAS is deterministic only with a fixed workspace.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def settle() -> None:
    """Replace this process by itself (same pid) with `ENVIRONMENT` set; return at once in the second life.

    Variables that are already set keep their value.
    """
    if os.environ.get(_MARK) == "1":
        del os.environ[_MARK]  # not for our children
        return
    environment = {**ENVIRONMENT, **os.environ, _MARK: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
