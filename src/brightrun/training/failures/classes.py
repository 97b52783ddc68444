"""The classes of failures: what each means, and what to do about it, for somebody who writes no code."""

from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    DATA = "data"
    TEMPLATE = "template"
    TOKENIZER = "tokenizer"
    GPU_MEMORY = "out_of_memory_gpu"
    HOST_MEMORY = "out_of_memory_host"
    DISK = "disk"
    PERMISSION = "permission"
    NETWORK = "network"
    HUB = "hub"
    QUOTA = "quota"
    PREEMPTED = "preempted"
    DIVERGED = "diverged"
    STALLED = "stalled"
    CONFIGURATION = "bad_configuration"
    BUDGET = "budget"
    BUG = "bug"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Explanation:
    """transient: the same attempt may go well another time, without a change."""

    title: str
    cause: str
    advice: str
    transient: bool = False


EXPLANATIONS: dict[FailureClass, Explanation] = {
    FailureClass.DATA: Explanation(
        "The training file",
        "The training file has rows that cannot be trained on, or is no longer the file that was validated.",
        "Open the dataset: every fault is listed there with its line. Correct it, then start a similar job.",
    ),
    FailureClass.TEMPLATE: Explanation(
        "The model's chat template",
        "The base model's own chat template does not accept these conversations.",
        "Change what it refuses (often a system message, or two turns of one role in a row), or choose another base "
        "model, then start a similar job.",
    ),
    FailureClass.TOKENIZER: Explanation(
        "The model's tokenizer",
        "The tokenizer of the base model is damaged, or does not belong to its weights.",
        "Fetch the model again, or choose another base model, then start a similar job.",
    ),
    FailureClass.GPU_MEMORY: Explanation(
        "Memory of the GPU",
        "The GPU had too little memory for one step, even after the run was made smaller by itself.",
        "Go on with the suggested change: it needs less memory and learns the same. Or choose a larger GPU.",
    ),
    FailureClass.HOST_MEMORY: Explanation(
        "Memory of the machine",
        "The machine had too little memory, even after the run was made smaller by itself.",
        "Close what else needs memory there, or go on with the suggested change: it needs less and learns the same.",
    ),
    FailureClass.DISK: Explanation(
        "The disk",
        "The disk is full, or does not take what is written.",
        "Make room on the machine's disk, then try again: it goes on from the last whole checkpoint.",
        transient=True,
    ),
    FailureClass.PERMISSION: Explanation(
        "Rights on the machine",
        "The trainer may not read or write a file that it needs.",
        "Let the user that runs the worker read and write the data directory, then try again.",
    ),
    FailureClass.NETWORK: Explanation(
        "The network",
        "A server could not be reached, or the connection broke.",
        "Check the network of the machine, then try again.",
        transient=True,
    ),
    FailureClass.HUB: Explanation(
        "The model hub",
        "The hub does not give the base model: its name is unknown there, or access must be asked for first.",
        "Check the model's name and your access on the hub, or give the model as a local folder.",
    ),
    FailureClass.QUOTA: Explanation(
        "A limit of a provider",
        "A provider refused because a quota or a rate limit is used up.",
        "Wait, or ask the provider for more, then try again.",
        transient=True,
    ),
    FailureClass.PREEMPTED: Explanation(
        "Stopped from outside",
        "The run was stopped from outside again and again before it could save anything new.",
        "Find out who or what stops it. With the suggested change it saves more often, and so gets on.",
        transient=True,
    ),
    FailureClass.DIVERGED: Explanation(
        "The loss grew without end",
        "The steps were too large: the model got worse instead of better, and the run was stopped.",
        "Start again with the suggested, lower learning rate.",
    ),
    FailureClass.STALLED: Explanation(
        "No sign of life",
        "The trainer hung: it gave no sign of life for minutes, and was ended.",
        "Look at the machine: a disk or a GPU that does not answer stops a process like this. Then try again.",
        transient=True,
    ),
    FailureClass.CONFIGURATION: Explanation(
        "The configuration",
        "A setting, or the base model, does not fit what is to be done.",
        "Read the message: it names the setting. Start a similar job with another value.",
    ),
    FailureClass.BUDGET: Explanation(
        "The limit of this job",
        "The job reached its own limit; what it had learned is saved.",
        "Raise the limit and go on from the checkpoint, or leave it.",
    ),
    FailureClass.BUG: Explanation(
        "A fault of the program",
        "Something happened that should not: a fault in BrightRun or in a library that it uses.",
        "Try again; if it fails the same way, report it with the lines below.",
        transient=True,
    ),
    FailureClass.UNKNOWN: Explanation(
        "Not known",
        "It ended in a way that no rule knows.",
        "Read the lines below, then try again.",
        transient=True,
    ),
}
