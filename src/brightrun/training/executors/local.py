"""Trainers as processes of this machine: in a session of their own, so that they live on when the worker dies."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from brightrun.logs import get_logger
from brightrun.training.executors.base import NoDeviceError, ProcessIdentity, StopAction
from brightrun.training.executors.devices import local_gpus

log = get_logger(__name__)

TRAINER_LOG = "trainer.log"
_TRAINER_FILE, _LOCK_FILE, _CONTROL_FILE = "trainer.json", "lock", "control.json"
_MARK = "BRIGHTRUN_TRAINER_OF"
"""Every process that a trainer starts inherits it, so that none is overlooked. Its value: the run directory."""
_SAME_START_S = 2.0
"""psutil derives start times from the boot time, which moves a little when the clock is set."""

_KEPT = {
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH",
    "VIRTUAL_ENV", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "CUDA_HOME",
    "CUDA_PATH", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "LD_PRELOAD",
}  # fmt: skip
_FOR_NETWORK = {
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
}  # fmt: skip


def clean_environment(*, devices: str, network: bool) -> dict[str, str]:
    """What a trainer is told of ours: nothing that is secret, nothing of the database, none of our settings.

    devices: for CUDA_VISIBLE_DEVICES; empty hides every GPU.
    """
    allowed = _KEPT | (_FOR_NETWORK if network else set())
    kept = {name: value for name, value in os.environ.items() if name in allowed or name.startswith("LC_")}
    return kept | {"CUDA_VISIBLE_DEVICES": devices, "PYTHONUNBUFFERED": "1"}


def process_of(identity: ProcessIdentity) -> psutil.Process | None:
    """The process, if it is that one and lives; a zombie does not."""
    try:
        process = psutil.Process(identity.pid)
        if abs(process.create_time() - identity.started) > _SAME_START_S or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    return process


class LocalTrainer:
    """child: when this process started it. identity: None when only its lock shows that it lives."""

    def __init__(
        self, run_dir: Path, identity: ProcessIdentity | None, child: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self.run_dir = run_dir
        self.identity = identity
        self._child = child

    @property
    def exit_code(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def is_alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        if self.identity is not None:
            return process_of(self.identity) is not None
        return lock_is_held(self.run_dir)

    def stop(self, action: StopAction) -> None:
        if action is StopAction.SAVE and self.identity is not None:
            if self.is_alive():
                # The leader alone: it saves, and looks after its own children.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.identity.pid, signal.SIGTERM)
            return
        aside = self.run_dir / f".{_CONTROL_FILE}.new"
        aside.write_text(json.dumps({"action": action.value}) + "\n", encoding="utf-8")
        aside.replace(self.run_dir / _CONTROL_FILE)

    def kill(self) -> None:
        if self.identity is None:
            self.stop(StopAction.SAVE)
            return
        members = self._members()
        if self.is_alive() or members:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.identity.pid, signal.SIGKILL)
        for member in members:  # those that moved to a session of their own
            with contextlib.suppress(psutil.Error):
                member.kill()  # psutil looks at the start time first: never a later process of the same pid

    def is_gone(self) -> bool:
        return not self.is_alive() and not self._members()

    def _members(self) -> list[psutil.Process]:
        """Living processes of the trainer: of its group (its pid is the group's, for it leads a session of its own),
        and whatever inherited its mark."""
        if self.identity is None:
            return []
        found = []
        for process in psutil.process_iter():
            try:
                ours = os.getpgid(process.pid) == self.identity.pid or (
                    process.environ().get(_MARK) == str(self.run_dir)
                )
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, PermissionError, psutil.Error):
                continue  # ended meanwhile, or is another user's and so none of ours
        return found


class LocalExecutor:
    """runs_dir: keeps one lock file a GPU, held by the trainer that uses it for as long as it lives."""

    name = "local"

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir

    def check(self, gpu_config: dict[str, Any]) -> None:
        if gpu_config.get("kind") != "cuda":
            return
        wanted, found = int(gpu_config["count"]), len(local_gpus())
        if found < wanted:
            raise NoDeviceError(f"The job wants {wanted} GPU, and this machine has {found or 'none'}.")

    def launch(self, run_dir: Path, gpu_config: dict[str, Any], *, network: bool) -> tuple[LocalTrainer, str]:
        self.check(gpu_config)
        # A request to stop an earlier attempt, which nobody obeyed any more, must not stop this one.
        (run_dir / _CONTROL_FILE).unlink(missing_ok=True)
        with self._devices(gpu_config) as (devices, locks), (run_dir / TRAINER_LOG).open("ab") as output:
            child = subprocess.Popen(
                # -P: the run directory holds a user's file and is nowhere to import from.
                [sys.executable, "-P", "-m", "brightrun.trainer", str(run_dir)],
                cwd=run_dir,
                env=clean_environment(devices=devices, network=network) | {_MARK: str(run_dir)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=locks,
            )
        try:
            identity = ProcessIdentity(child.pid, psutil.Process(child.pid).create_time())
        except psutil.NoSuchProcess:  # pragma: no cover - it is our child: it stays visible until `poll`
            identity = ProcessIdentity(child.pid, 0.0)
        return LocalTrainer(run_dir, identity, child), devices

    def adopt(self, run_dir: Path, identity: ProcessIdentity | None) -> LocalTrainer | None:
        candidates = [identity, _introduced(run_dir)]
        for candidate in candidates:
            if candidate is not None and process_of(candidate) is not None:
                return LocalTrainer(run_dir, candidate)
        if identity is None and (found := _by_command_line(run_dir)) is not None:
            return LocalTrainer(run_dir, found)
        # Seen from another container the process has no pid; the kernel still holds its lock.
        return LocalTrainer(run_dir, None) if lock_is_held(run_dir) else None

    @contextlib.contextmanager
    def _devices(self, gpu_config: dict[str, Any]) -> Iterator[tuple[str, list[int]]]:
        """(CUDA_VISIBLE_DEVICES, descriptors of their locks). The trainer inherits the locks; ours are closed."""
        if gpu_config.get("kind") != "cuda":
            yield "", []
            return
        wanted = int(gpu_config["count"])
        chosen: list[int] = []
        locks: list[int] = []
        try:
            for gpu in local_gpus():
                if len(chosen) == wanted:
                    break
                descriptor = os.open(self._runs_dir / f".gpu-{gpu.index}.lock", os.O_RDWR | os.O_CREAT, 0o644)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    continue
                chosen.append(gpu.index)
                locks.append(descriptor)
            if len(chosen) < wanted:
                raise NoDeviceError(
                    f"The job wants {wanted} GPU, and {len(chosen) or 'none'} of this machine's are free."
                )
            yield ",".join(map(str, chosen)), locks
        finally:
            for descriptor in locks:
                os.close(descriptor)


def lock_is_held(run_dir: Path) -> bool:
    """True while a trainer works on the directory, wherever on this machine it runs."""
    try:
        descriptor = os.open(run_dir / _LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _introduced(run_dir: Path) -> ProcessIdentity | None:
    """As the trainer says itself, a moment after its start."""
    try:
        told = json.loads((run_dir / _TRAINER_FILE).read_bytes())
        return ProcessIdentity(int(told["pid"]), float(told["process_start_time"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("trainer.json cannot be read", run_dir=str(run_dir), error=str(error))
        return None


def _by_command_line(run_dir: Path) -> ProcessIdentity | None:
    """For one launched a moment ago by a worker that died before it could write down the pid."""
    for process in psutil.process_iter(["cmdline", "create_time", "status"]):
        command = process.info["cmdline"] or []
        if (
            "brightrun.trainer" in command
            and command[-1:] == [str(run_dir)]
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ):
            return ProcessIdentity(process.pid, process.info["create_time"])
    return None
