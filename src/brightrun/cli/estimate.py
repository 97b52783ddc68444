"""`brightrun estimate`: what a run would take, without server or database; with `--probe`, measured on this machine."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DONE, REFUSED = 0, 2


class _Failure(Exception):
    """What keeps the estimate from being made. code: stable, for scripts."""

    def __init__(self, code: str, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.code, self.details = code, details


def main(arguments: Sequence[str]) -> int:
    """Print the promise. Exit 0: made. 2: command line, file or model cannot be used, or the probe failed."""
    options = _parser().parse_args(arguments)
    try:
        promise = _promise(options)
    except _Failure as failure:
        if options.json:
            print(json.dumps({"error": str(failure), "code": failure.code, "details": failure.details}))
        print(f"brightrun: {failure}", file=sys.stderr)
        return REFUSED
    if options.json:
        print(json.dumps(promise, ensure_ascii=False))
    else:
        _print(promise)
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="brightrun estimate",
        allow_abbrev=False,
        description="Memory, duration and cost of a training run, each with an interval. No server, no database.",
        epilog="Exit status: 0 estimated, 2 the command line, the file or the model cannot be used, or a probe failed.",
    )
    add = parser.add_argument
    add("--dataset", type=Path, required=True, metavar="FILE", help="the training file, in any format")
    add("--base-model", default="tiny", metavar="M", help="tiny, tiny-random, a folder, or a hub id")
    add("--preset", default="balanced", metavar="P", help="conservative, balanced, aggressive or custom")
    add("--gpu", metavar="ID", help="a device of the GPU catalogue (default: this machine)")
    add("--gpu-count", type=_count, default=1, metavar="N", help="how many of them")
    add("--probe", action="store_true", help="run a few real steps on this machine first: narrower intervals")
    add("--method", default="analytic", choices=("analytic", "documented"), help="documented: the earlier formula")
    add("--set", dest="settings", action="append", default=[], metavar="K=V", help="a hyperparameter; repeatable")
    add("--format", default="auto", metavar="NAME", help="format of the file (auto: by its content)")
    add("--base-model-dir", type=Path, metavar="DIR", help="folder with base models, by name")
    add("--allow-pickle", action="store_true", help="with --probe: load pickled weights; they can run code")
    add("--json", action="store_true", help="one JSON object on stdout, everything else on stderr")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 8:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 8")
    return int(text)


def _promise(options: argparse.Namespace) -> dict[str, Any]:
    from brightrun.errors import BrightRunError
    from brightrun.formats.errors import FormatError
    from brightrun.formats.hyperparameters import HyperparameterError

    try:
        return _made(options)
    except HyperparameterError as error:
        raise _Failure("validation_error", str(error), error.problems) from error
    except BrightRunError as error:
        raise _Failure(error.code, error.message, error.details) from error
    except OSError as error:
        raise _Failure("unreadable", f"{error.strerror or error}: {error.filename or options.dataset}") from error
    except (FormatError, ValueError) as error:
        raise _Failure("unreadable", str(error)) from error


def _made(options: argparse.Namespace) -> dict[str, Any]:
    from brightrun.errors import InvalidInputError
    from brightrun.formats import hyperparameters
    from brightrun.settings import get_settings
    from brightrun.training.configuration import configure
    from brightrun.training.promising import Counted, counted_file, promise_of, shape_named
    from brightrun.training.schemas import GpuConfigIn

    if not options.dataset.is_file():
        raise _Failure("unreadable", f"{options.dataset} is not a file")
    settings = get_settings()
    if options.base_model_dir is not None:
        settings = settings.model_copy(update={"base_model_dir": options.base_model_dir})
    overrides = hyperparameters.parse_set(options.settings)
    gpu = GpuConfigIn(type=options.gpu, count=options.gpu_count) if options.gpu else None
    asked = {"preset_id": options.preset, "overrides": overrides, "gpu_config": gpu}
    configure(settings, **asked)  # a mistake on the command line is told before the file is read
    shape = shape_named(settings, options.base_model, allow_paths=True)
    counted: Counted = counted_file(
        settings, options.dataset, options.format, options.base_model, allow_paths=True, progress=_say
    )
    if not counted.rows and options.probe:
        raise _Failure("no_tokenizer", f"A probe needs the base model {options.base_model} on this machine")
    configuration = configure(settings, **asked, pairs=counted.subject.records)
    measured = None
    if options.probe:
        if options.method != "analytic":
            raise _Failure(
                "validation_error", "--probe measures for the analytic method; leave out --method documented"
            )
        from brightrun.training.promising import probe_here

        with tempfile.TemporaryDirectory(prefix="brightrun-probe-") as folder:
            try:
                measured = probe_here(
                    settings, options.dataset, options.format, counted, configuration, shape, options.base_model,
                    Path(folder) / "run", allow_pickle=options.allow_pickle, progress=_teller(),
                )  # fmt: skip
            except InvalidInputError as error:
                raise _Failure(error.code, error.message, error.details) from error
    promise = promise_of(
        counted.subject, configuration, shape, options.base_model, method=options.method, probe=measured
    )
    return {"file": str(options.dataset), **promise}


def _say(words: str) -> None:
    print(words, file=sys.stderr)


def _teller() -> Callable[[float, str], None]:
    """Says each new state of a probe once."""
    last = ""

    def tell(fraction: float, words: str) -> None:
        nonlocal last
        if words != last:
            last = words
            print(f"probe: {fraction:4.0%} {words}", file=sys.stderr)

    return tell


def _print(promise: dict[str, Any]) -> None:
    gib = 1024**3
    memory, seconds, cost = promise["memory_bytes"], promise["seconds"], promise["cost_usd"]
    if memory["value"] is not None:
        print(f"memory   {memory['value'] / gib:8.2f} GiB  ({memory['low'] / gib:.2f} to {memory['high'] / gib:.2f})")
    between = "" if seconds["low"] is None else f"  ({seconds['low']:,.0f} to {seconds['high']:,.0f})"
    print(f"duration {seconds['value']:8,.0f} s    {between}")
    between = "" if cost["low"] is None else f"  ({cost['low']:,.2f} to {cost['high']:,.2f})"
    print(f"cost     {cost['value']:8,.2f} USD  {between}")
    for name, part in seconds["parts"].items():
        print(f"           {name.replace('_', ' ')}: {part:,.1f} s")
    for rule in [*promise["rules_fired"], *promise["advice"].values(), *promise["reasons"]]:
        print(f"  {rule}")
    for name, source in promise["sources"].items():
        print(f"  {name}: {source}")
