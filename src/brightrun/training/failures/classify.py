"""Which class a failure is of. Pure: from the code that ended it, its message and the end of its log.

What the trainer or the supervisor knows for certain decides first. Everything else is told by words that the systems
below us use; the most specific come first, and the message counts before the log, whose last lines count before others.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from brightrun.training.failures.classes import EXPLANATIONS, Explanation, FailureClass

_C = FailureClass
_CERTAIN: dict[str, FailureClass] = {
    "diverged": _C.DIVERGED,
    "stalled": _C.STALLED,
    "budget": _C.BUDGET,
    "month_budget": _C.BUDGET,
    "disk_full": _C.DISK,
    "out_of_memory_host": _C.HOST_MEMORY,
    "killed": _C.PREEMPTED,
    "preempted": _C.PREEMPTED,
    "stopped": _C.PREEMPTED,
    "paused": _C.PREEMPTED,
    "vanished": _C.PREEMPTED,
    "machine_lost": _C.PREEMPTED,
    "interrupted_too_often": _C.PREEMPTED,
    "pickled_weights_refused": _C.CONFIGURATION,
    "base_model_changed": _C.CONFIGURATION,
    "changed_since_checkpoint": _C.CONFIGURATION,
    "target_modules": _C.CONFIGURATION,
    "qlora_needs_gpu": _C.CONFIGURATION,
    "qlora_needs_bitsandbytes": _C.CONFIGURATION,
    "dataset_missing": _C.DATA,
    "dataset_changed": _C.DATA,
    "data_missing": _C.DATA,
    "data_changed": _C.DATA,
    "nothing_to_train": _C.DATA,
    "template_refused": _C.TEMPLATE,
}
_OTHERWISE: dict[str, FailureClass] = {
    "data": _C.DATA,
    "bad_data": _C.DATA,
    "tokenizer": _C.TOKENIZER,
    "out_of_memory": _C.HOST_MEMORY,
    "disk": _C.DISK,
    "storage": _C.NETWORK,
    "base_model_fetch": _C.HUB,
    "base_model_unusable": _C.CONFIGURATION,
    "base_model_incomplete": _C.CONFIGURATION,
    "bad_configuration": _C.CONFIGURATION,
    "locked": _C.CONFIGURATION,
    "crashed": _C.BUG,
    "launch": _C.BUG,
    "preparation_crashed": _C.BUG,
}
"""The class of a code when no words say more."""

_WORDS: dict[FailureClass, tuple[str, ...]] = {
    _C.GPU_MEMORY: (
        r"(CUDA|HIP|XPU|MPS)( error:| backend)? out of memory", r"CUBLAS_STATUS_ALLOC_FAILED",
        r"cuda\.OutOfMemoryError",
    ),
    _C.HOST_MEMORY: (
        r"DefaultCPUAllocator", r"can't allocate memory", r"cannot allocate memory", r"not enough memory",
        r"std::bad_alloc", r"MemoryError", r"Unable to allocate [\d.]+ .?i?B", r"oom-kill", r"OOMKilled",
        r"Out of memory: Killed", r"can't start new thread",
    ),
    _C.DISK: (
        r"No space left on device", r"Errno 28\b", r"ENOSPC", r"Disk quota exceeded", r"Errno 122\b",
        r"Input/output error", r"Errno 5\b", r"Read-only file system", r"Errno 30\b", r"File too large",
        r"Errno 27\b", r"Stale file handle", r"disk full",
    ),
    _C.QUOTA: (
        r"\b429\b", r"Too Many Requests", r"rate.?limit", r"quota", r"RESOURCE_EXHAUSTED", r"RequestLimitExceeded",
        r"LimitExceeded", r"Insufficient(Instance)?Capacity", r"ResourceExhausted",
    ),
    _C.HUB: (
        r"GatedRepo", r"gated repo", r"Repository ?Not ?Found", r"Revision ?Not ?Found", r"Entry ?Not ?Found",
        r"\b40[134] Client Error", r"Client error '40[134]", r"Invalid username or password", r"\b5\d\d Server Error",
        r"Server error '5\d\d", r"DisabledRepo", r"Access to model .* is restricted", r"HFValidationError",
        r"Repo id must",
    ),
    _C.NETWORK: (
        r"Connection ?Error", r"Connect ?Error", r"Connection (refused|reset|aborted|broken)",
        r"Name or service not known", r"name resolution", r"getaddrinfo", r"timed out", r"Timeout ?(Error|Exception)\b",
        r"ReadTimeout", r"ConnectTimeout", r"SSL", r"CERTIFICATE_VERIFY_FAILED", r"Network is unreachable",
        r"No route to host", r"RemoteProtocolError", r"IncompleteRead", r"Proxy ?Error", r"LocalEntryNotFound",
        r"cannot find the (requested|appropriate) .*(file|snapshot)", r"NCCL .*(remote|socket)", r"Server disconnected",
    ),
    _C.PERMISSION: (
        r"Permission ?(denied|Error)", r"Errno 13\b", r"EACCES", r"Operation not permitted", r"Access ?Denied",
    ),
    _C.TEMPLATE: (r"chat.template", r"TemplateError", r"TemplateSyntaxError", r"UndefinedError", r"jinja2"),
    _C.TOKENIZER: (
        r"tokenizer", r"sentencepiece", r"knows only \d+: they do not belong",
        r"data did not match any variant of untagged enum",
    ),
    _C.DIVERGED: (r"diverged", r"loss (is |= ?)?(nan|inf)\b", r"gradient norm (nan|inf)\b", r"non-finite (loss|grad)"),
    _C.STALLED: (r"sign of life", r"Watchdog caught collective operation timeout", r"hung"),
    _C.PREEMPTED: (
        r"preempt", r"SIGTERM", r"SIGKILL", r"spot (instance|interruption)", r"being terminated",
        r"DUE TO TIME LIMIT", r"NODE_FAIL",
    ),
    _C.DATA: (
        r"bad rows?\b", r"JSONDecodeError", r"UnicodeDecodeError", r"not valid UTF-8", r"codec can't decode",
        r"training file",
    ),
    _C.CONFIGURATION: (
        r"target_modules", r"Unrecognized (model|configuration)", r"does not recognize this architecture",
        r"size mismatch", r"unexpected keyword argument", r"is not a directory", r"has no run\.json", r"allowed: ",
        r"invalid choice", r"not supported", r"No module named", r"flash.?attn", r"HeaderTooLarge", r"SafetensorError",
        r"error while deserializing",
    ),
    _C.BUG: (
        r"Traceback", r"Fatal Python error", r"Segmentation fault", r"core dumped", r"AssertionError", r"CUDA error",
        r"SIGSEGV", r"SIGABRT", r"^\s*\w*(Error|Exception|Interrupt)\b", r"internal error",
    ),
}  # fmt: skip
"""What systems say, by class; the first class that matches a line has it."""
_RULES = [(kind, re.compile("|".join(words), re.IGNORECASE | re.MULTILINE)) for kind, words in _WORDS.items()]
_FRAMES = re.compile(r'^\s*(File "|\^+|~+|[|+\-]|at |#\d+)')
"""Lines of a stack: they name files and functions, and so words that mean nothing here."""


@dataclass(frozen=True)
class Failure:
    """line: the one that shows it; "" when only the code told."""

    kind: FailureClass
    line: str = ""

    @property
    def explanation(self) -> Explanation:
        return EXPLANATIONS[self.kind]

    @property
    def transient(self) -> bool:
        """May the same attempt go well another time?"""
        return self.explanation.transient


def classify(code: str | None, message: str | None, evidence: str | None = None) -> Failure:
    """code: as `TrainingJob.error_code`. message: what was said of it. evidence: the last lines of its log."""
    message, code = message or "", code or ""
    lines = [message, *_telling(evidence or "")]
    if code in _CERTAIN:
        kind = _CERTAIN[code]
        return Failure(kind, _line_of(kind, lines) or message)
    if code in {"data", "bad_data"}:
        kind = _C.TEMPLATE if _matches(_C.TEMPLATE, message) else _C.DATA
        return Failure(kind, message)
    allowed = {_C.GPU_MEMORY, _C.HOST_MEMORY} if code == "out_of_memory" else None
    for line in lines:
        for kind, rule in _RULES:
            if (allowed is None or kind in allowed) and kind is not _C.BUG and rule.search(line):
                return Failure(kind, line)
    if code in _OTHERWISE:
        return Failure(_OTHERWISE[code], message)
    for line in lines:
        if _matches(_C.BUG, line):
            return Failure(_C.BUG, line)
    return Failure(_C.UNKNOWN, message)


def _telling(evidence: str) -> Iterator[str]:
    """Lines of a log, the last first, without those of a stack."""
    for line in reversed(evidence.splitlines()):
        text = line.strip()
        if text and not _FRAMES.match(line):
            yield text


def _matches(kind: FailureClass, text: str) -> bool:
    return any(rule.search(text) for known, rule in _RULES if known is kind)


def _line_of(kind: FailureClass, lines: list[str]) -> str:
    return next((line for line in lines if _matches(kind, line)), "")
