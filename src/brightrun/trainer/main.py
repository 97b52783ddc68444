"""The trainer as a process: arguments, lock, signals, and an exit code for whatever happens."""

import argparse
import faulthandler
import os
import socket
import sys
import traceback
from pathlib import Path

import psutil

from brightrun.formats.run import RunConfig, RunConfigError, read_run
from brightrun.trainer.context import RunContext, StopAsked, say
from brightrun.trainer.control import Control
from brightrun.trainer.events import EventLog, is_finished, now
from brightrun.trainer.heartbeat import TRAINER_FILE, Heartbeat, spent_seconds_before, write_json
from brightrun.trainer.lock import RunLock
from brightrun.trainer.outcomes import ExitCode, TrainerStop, bad_configuration, classified

LOG_FILE = "trainer.log"


def main(arguments: list[str]) -> int:
    """Run or resume the run directory in `arguments`; returns the exit code (`ExitCode`)."""
    parser = argparse.ArgumentParser(prog="python -m brightrun.trainer", description=main.__doc__, exit_on_error=False)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="directory made by `brightrun trainer prepare`")
    try:
        run_dir: Path = parser.parse_args(arguments).run_dir.resolve()
    except (argparse.ArgumentError, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == 0:  # --help
            return ExitCode.DONE
        say(f"{parser.format_usage().strip()}\n{error}")
        return ExitCode.BAD_CONFIGURATION

    control = Control()
    control.listen()
    try:
        if not run_dir.is_dir():
            raise bad_configuration(f"{run_dir} is not a directory.", advice="Make one: `brightrun trainer prepare`.")
        if is_finished(run_dir):
            say(f"{run_dir} is finished; nothing to do.")
            return ExitCode.DONE
        if not (run_dir / "run.json").is_file():  # leave no lock behind in a directory that is not ours
            raise bad_configuration(f"{run_dir} has no run.json.", advice="Make one: `brightrun trainer prepare`.")
        with RunLock(run_dir):
            if is_finished(run_dir):  # by the trainer that held the lock a moment ago
                return ExitCode.DONE
            return _attempt(run_dir, control)
    except TrainerStop as stop:
        return _ended(stop)
    except OSError as error:
        return _ended(classified(error))


def _attempt(run_dir: Path, control: Control) -> ExitCode:
    """Everything that happens under the lock."""
    with (run_dir / LOG_FILE).open("a", encoding="utf-8", buffering=1) as log:
        faulthandler.enable(file=log)  # a crash in native code leaves its stack here
        events = EventLog(run_dir)
        heartbeat: Heartbeat | None = None
        try:
            config = _config(run_dir)
            if not config.allow_hub:
                os.environ["HF_HUB_OFFLINE"] = "1"
            spent = spent_seconds_before(run_dir)
            heartbeat = Heartbeat(run_dir, config.run_id, spent_before=spent or 0.0)
            _introduce(run_dir, config)
            heartbeat.start()
            control.bind(run_dir)
            context = RunContext(run_dir, config, events, control, heartbeat)
            if events.repaired_bytes:
                context.warn(
                    "events_repaired",
                    f"{events.repaired_bytes} bytes after the last whole event were cut off: the last attempt was "
                    "killed while it wrote.",
                )
            if spent is None:
                context.warn("heartbeat_lost", "heartbeat.json is unreadable; time spent is taken from the checkpoint.")
            from brightrun.trainer.session import run

            result = run(context)
            say(f"done after {result['steps']} steps; the adapter is in {run_dir / result['adapter_path']}")
            return ExitCode.DONE
        except StopAsked as asked:
            control.obeyed()
            events.emit("warning", code=asked.request.code, message=asked.request.message, exit_code=75)
            events.sync()
            say(asked.request.message)
            return ExitCode.PREEMPTED
        except BaseException as error:  # noqa: BLE001  (whatever it is, it becomes an exit code and a failed event)
            stop = classified(error)
            _say_failed(events, stop)
            if not isinstance(error, TrainerStop):
                _keep_traceback(log.fileno())
            return _ended(stop)
        finally:
            if heartbeat is not None:
                heartbeat.stop()
            events.close()
            faulthandler.disable()


def _config(run_dir: Path) -> RunConfig:
    try:
        return read_run(run_dir)
    except RunConfigError as error:
        raise bad_configuration(str(error)) from error


def _introduce(run_dir: Path, config: RunConfig) -> None:
    """Write trainer.json: who works here, so that a supervisor can tell this process from a later one of the same pid.

    `process_start_time` is the kernel's, in seconds since 1970, as psutil gives it.
    """
    process = psutil.Process()
    write_json(
        run_dir / TRAINER_FILE,
        {
            "run_id": config.run_id,
            "pid": process.pid,
            "process_start_time": process.create_time(),
            "started_at": now(),
            "host": socket.gethostname(),
            "python": sys.version.split()[0],
        },
    )


def _say_failed(events: EventLog, stop: TrainerStop) -> None:
    try:
        events.emit(
            "failed",
            exit_code=int(stop.exit_code),
            code=stop.code,
            message=stop.message,
            advice=stop.advice,
            resumable=stop.resumable,
        )
        events.sync()
    except OSError as error:  # a full disk: the exit code and stderr still tell
        say(f"events.jsonl could not be written: {error}")


def _keep_traceback(log: int) -> None:
    try:
        os.write(log, f"--- {now()}\n{traceback.format_exc()}".encode("utf-8", "backslashreplace"))
    except OSError as error:  # a full disk
        say(f"{LOG_FILE} could not be written: {error}\n{traceback.format_exc()}")


def _ended(stop: TrainerStop) -> ExitCode:
    say(f"{stop.code}: {stop.message}" + (f"\n{stop.advice}" if stop.advice else ""))
    return stop.exit_code
