"""How a trainer process ends: exit codes, and the exceptions that lead to them."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Part of the contract with whoever starts trainers."""

    DONE = 0
    BAD_CONFIGURATION = 64
    BAD_DATA = 65
    BUG = 70
    PREEMPTED = 75
    """Stopped from outside (signal or control file); everything needed to go on is saved."""
    OUT_OF_MEMORY = 76
    BUDGET = 77
    DIVERGED = 78


class TrainerStop(Exception):
    """The run ends here, for a reason that a person can read.

    code: stable name of the reason, finer than the exit code (`locked`, `template_refused`, `disk_full`, …).
    advice: what to do about it. resumable: running the same directory again goes on from the last checkpoint.
    """

    def __init__(
        self, exit_code: ExitCode, code: str, message: str, *, advice: str = "", resumable: bool = False
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self.message = message
        self.advice = advice
        self.resumable = resumable


def bad_configuration(message: str, *, code: str = "bad_configuration", advice: str = "") -> TrainerStop:
    return TrainerStop(ExitCode.BAD_CONFIGURATION, code, message, advice=advice)


def bad_data(message: str, *, code: str = "bad_data", advice: str = "") -> TrainerStop:
    return TrainerStop(ExitCode.BAD_DATA, code, message, advice=advice)


_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


_DISK_WORDS = ("no space left on device", "disk quota exceeded", "file too large")


def classified(error: BaseException) -> TrainerStop:
    """The stop that an unexpected exception amounts to: memory, disk, or a bug of ours."""
    if isinstance(error, TrainerStop):
        return error
    # torch raises plain RuntimeErrors when host memory runs out, and OutOfMemoryError (a RuntimeError) on a GPU.
    text = str(error).lower()
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(words in text for words in _MEMORY_WORDS)
    ):
        return TrainerStop(
            ExitCode.OUT_OF_MEMORY,
            "out_of_memory",
            f"Memory ran out: {error or type(error).__name__}.",
            advice="Lower micro_batch_tokens or turn activation_checkpointing on; neither changes the result. "
            "Then run again: it goes on from the last checkpoint.",
            resumable=True,
        )
    # safetensors writes from Rust, and tells of a full disk with an exception of its own.
    full = any(words in text for words in _DISK_WORDS)
    if full or (isinstance(error, OSError) and error.errno in {27, 28, 122}):  # EFBIG, ENOSPC, EDQUOT
        return TrainerStop(
            ExitCode.BUG,
            "disk_full",
            f"The disk took no more: {error}.",
            advice="Make room and run again: it goes on from the last whole checkpoint.",
            resumable=True,
        )
    return TrainerStop(
        ExitCode.BUG,
        "bug",
        f"{type(error).__name__}: {error}",
        advice="This should not happen. The traceback is in trainer.log in the run directory.",
        resumable=True,
    )
