"""How an attempt ended, and what follows from that. Pure: from an exit code and the run's last event to a verdict."""

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from brightrun.training.failures.classify import classify

MAX_FRUITLESS = 3
"""Interruptions in a row without a new whole checkpoint that are resumed; the next one stops the job."""
MAX_OWN_FAILURES = 3
"""Failures of the run itself that are tried again; the next one stops the job."""
_BACKOFF_S = (0.0, 5.0, 20.0, 60.0)


class Kind(StrEnum):
    DONE = "done"
    INTERRUPTED = "interrupted"
    """Stopped from outside: goes on by itself."""
    OUT_OF_MEMORY = "out_of_memory"
    """Tried again with less memory, and the same result."""
    OWN_FAILURE = "own_failure"
    """May go well another time: tried again a few times."""
    FINAL = "final"
    """Would end the same way again."""
    LOCKED = "locked"
    """Another trainer works on the run directory: it is the one to follow."""


@dataclass(frozen=True)
class Verdict:
    """code: stable class of the failure. message: what happened. advice: what to do."""

    kind: Kind
    code: str
    message: str
    advice: str = ""


_FINAL = {64: "bad_configuration", 65: "data", 77: "budget", 78: "diverged"}
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS}


def judge(
    exit_code: int | None, last: dict[str, Any] | None, *, stalled: bool = False, memory_kills: int = 0
) -> Verdict:
    """exit_code: None when nobody saw it. last: the run's last event, if this attempt wrote it.

    stalled: it was ended because it gave no sign of life. memory_kills: processes that the system has killed for
    memory since it was launched.
    """
    kind = last.get("type") if last else None
    if last is not None and kind == "done":
        return Verdict(Kind.DONE, "done", "The trainer is done.")
    if last is not None and kind == "failed":
        return _told(int(last.get("exit_code") or 70), last)
    if last is not None and last.get("exit_code") == 75:
        return Verdict(Kind.INTERRUPTED, str(last.get("code", "preempted")), str(last.get("message", "Stopped.")))
    if stalled:
        return Verdict(
            Kind.OWN_FAILURE, "stalled", "The trainer gave no sign of life for too long and was ended.",
            "If it happens again, look at the machine: a disk or a GPU that does not answer stops a process like this.",
        )  # fmt: skip
    if memory_kills and exit_code in {None, -signal.SIGKILL}:
        return Verdict(
            Kind.OUT_OF_MEMORY, "out_of_memory_host", "The system killed the trainer because memory ran out.",
            "Lower micro_batch_tokens or turn activation_checkpointing on; neither changes the result.",
        )  # fmt: skip
    return _silent(exit_code)


def _told(exit_code: int, last: dict[str, Any]) -> Verdict:
    """The trainer said itself why it ended."""
    code = str(last.get("code") or "bug")
    message, advice = str(last.get("message") or "It gave no reason."), str(last.get("advice") or "")
    if exit_code == 76:
        return Verdict(Kind.OUT_OF_MEMORY, "out_of_memory", message, advice)
    if exit_code in _FINAL:
        if code == "base_model_fetch" and classify(code, message).transient:
            return Verdict(Kind.OWN_FAILURE, code, message, advice)  # a network that is away comes back
        is_data = exit_code == 65 and code != "template_refused"
        return Verdict(Kind.FINAL, _FINAL[exit_code] if is_data else code, message, advice)
    return Verdict(Kind.OWN_FAILURE, code, message, advice)


def _silent(exit_code: int | None) -> Verdict:
    """It ended without a word of why: by a signal, before it could write, or with a full disk."""
    if exit_code is None:
        return Verdict(Kind.INTERRUPTED, "vanished", "The trainer's process is gone; nobody saw how it ended.")
    if exit_code < 0:
        return _by_signal(signal.Signals(-exit_code) if -exit_code in set(signal.Signals) else None, -exit_code)
    match exit_code:
        case 0:
            return Verdict(Kind.OWN_FAILURE, "bug", "The trainer ended without an error and without a result.")
        case 64:
            # Without an event: it did not get the run directory's lock, or could not read run.json.
            return Verdict(Kind.LOCKED, "locked", "Another trainer was working on the run directory.")
        case 65:
            return Verdict(Kind.FINAL, "data", "The trainer refused the data.", "Its log below says which row.")
        case 75:
            return Verdict(Kind.INTERRUPTED, "preempted", "The trainer was asked to stop.")
        case 76:
            return Verdict(Kind.OUT_OF_MEMORY, "out_of_memory", "Memory ran out.")
        case 77 | 78:
            return Verdict(Kind.FINAL, _FINAL[exit_code], "The trainer stopped itself.", "Its log below says why.")
    return Verdict(
        Kind.OWN_FAILURE, "bug", f"The trainer ended with exit code {exit_code}.", "The end of its log is shown below."
    )


def _by_signal(number: signal.Signals | None, raw: int) -> Verdict:
    name = number.name if number is not None else f"signal {raw}"
    if number in _CRASHES:
        return Verdict(
            Kind.OWN_FAILURE, "crashed", f"The trainer crashed in native code ({name}).",
            "If it happens again, turn activation_checkpointing on or choose another precision; its log has the stack.",
        )  # fmt: skip
    if number is signal.SIGKILL:
        return Verdict(
            Kind.INTERRUPTED, "killed", "The trainer was killed (SIGKILL): by a person, or by the system for memory.",
            "If it happens again at the same place, lower micro_batch_tokens.",
        )  # fmt: skip
    return Verdict(Kind.INTERRUPTED, "killed", f"The trainer was ended from outside ({name}).")


def pause_s(tries: int) -> float:
    """Wait before the next attempt, after so many fruitless ones."""
    return _BACKOFF_S[min(max(tries - 1, 0), len(_BACKOFF_S) - 1)]
