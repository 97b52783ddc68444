"""`brightrun demo`: a real file through the whole platform, as its users would take it: the HTTP API of a running
server, the signed URL, the queue, the worker and the trainer, with no shortcut.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brightrun.errors import BrightRunError, UnavailableError

if TYPE_CHECKING:
    from brightrun.sdk import Client

SAMPLE = Path(__file__).parent / "samples" / "bike-shop.jsonl"
# A quarter is held out: with fewer than ten conversations nothing can count as proven. A model of two million weights
# takes larger steps than the preset, which is for models a thousand times its size.
SETTINGS = {"seed": 7, "heldout_fraction": 0.25, "learning_rate": 0.003}
_START_S = 120.0
_STOP_S = 150.0


def demo(
    data: Annotated[Path | None, typer.Option("--data", help="Data directory. Default: a new one, kept.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")] = False,
) -> None:
    """Upload, validate, train and prove a small model, end to end. Exit 0 only when all of it worked."""
    # A stop asked for politely is a stop like Ctrl-C: what was started is stopped first. SIGINT too, because a shell
    # starts what runs in its background with SIGINT ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    directory = (data or _new_directory()).absolute()
    talk = Talk(sys.stderr if as_json else sys.stdout)
    try:
        with running_platform(directory, talk) as (client, signin_url):
            summary = walk(client, directory, talk, signin_url)
    except BrightRunError as error:
        talk.fail(error.message)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        talk.fail(f"stopped; what there is stays in {directory}")
        raise typer.Exit(130) from None
    talk.end(summary, directory)
    if as_json:
        print(json.dumps(summary), flush=True)


def _new_directory() -> Path:
    from platformdirs import user_data_path

    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    base = user_data_path("brightrun") / "demo"
    for number in range(1, 1000):
        directory = base / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        return directory
    raise UnavailableError(f"cannot make a new directory in {base}")


class Talk:
    """What the demo says while it works."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._open = False
        self._last = ""
        self.started = time.monotonic()

    def step(self, text: str) -> None:
        self._close()
        print(f"[{time.monotonic() - self.started:5.1f} s] {text}", file=self._stream, flush=True)

    def progress(self, text: str) -> None:
        """One line that changes on a terminal; each change on a line of its own elsewhere."""
        if text == self._last:
            return
        self._last = text
        if self._live:
            print(f"\r          {text:<70}", end="", file=self._stream, flush=True)
            self._open = True
        else:
            print(f"          {text}", file=self._stream, flush=True)

    def _close(self) -> None:
        if self._open:
            print(file=self._stream)
            self._open = False

    def fail(self, text: str) -> None:
        self._close()
        print(f"brightrun demo failed: {text}", file=sys.stderr, flush=True)

    def end(self, summary: dict[str, Any], directory: Path) -> None:
        self._close()
        base, adapter = summary["heldout_loss_base"], summary["heldout_loss_adapter"]
        print(
            f"\nDone in {summary['seconds']:.0f} s. Loss per trained token on {summary['heldout_conversations']} "
            f"conversations that training never saw:\n"
            f"  adapter off  {base:.4f}\n  adapter on   {adapter:.4f}\n"
            f"{summary['verdict']}\n\n"
            f"  adapter          {summary['adapter_path']}\n"
            f"  data directory   {directory}\n"
            f"  look around      brightrun up --data {directory}\n",
            file=self._stream,
            flush=True,
        )


@contextmanager
def running_platform(directory: Path, talk: Talk) -> Iterator[tuple["Client", str]]:
    """`brightrun up` as a child, until the block ends; a client of it, and its sign-in link."""
    from brightrun.sdk import Client

    directory.mkdir(parents=True, exist_ok=True)
    talk.step(f"starting database, server and worker (data in {directory})")
    log_path = directory / "demo.log"
    environment = {
        name: value for name, value in os.environ.items() if name not in {"BRIGHTRUN_URL", "BRIGHTRUN_TOKEN"}
    }
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "brightrun", "up", "--data", str(directory), "--port", "0", "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; we stop it in order.
        )
    try:
        ready = _first_line(process, log_path)
        with Client(ready["url"], ready["api_token"]) as client:
            yield client, str(ready["signin_url"])
    finally:
        stop(process, talk)


def _first_line(process: subprocess.Popen[bytes], log_path: Path) -> dict[str, Any]:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(timeout=_START_S):
            raise UnavailableError(f"`brightrun up` was not ready after {_START_S:.0f} s; its log is {log_path}")
    line = process.stdout.readline()
    if not line:
        raise UnavailableError(f"`brightrun up` ended with status {process.wait()}; its log is {log_path}")
    ready: dict[str, Any] = json.loads(line)
    return ready


def stop(process: subprocess.Popen[bytes], talk: Talk) -> None:
    """SIGTERM, and wait: `up` stops its own children."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            talk.fail(f"`brightrun up` did not stop in {_STOP_S:.0f} s; it is killed")
            process.kill()
            process.wait()


def walk(client: "Client", directory: Path, talk: Talk, signin_url: str) -> dict[str, Any]:
    """Upload → validation → training → model. Raises UnavailableError at the first step that does not hold."""
    talk.step(f"the pages are at {client.url} while this runs; sign in with {signin_url}")
    talk.step(f"uploading {SAMPLE.name} ({SAMPLE.stat().st_size / 1000:.0f} KB) through a signed URL")
    dataset = client.datasets.upload(SAMPLE, name="Bicycle workshop (demo)")
    talk.step("checking every line of it")
    dataset = client.datasets.wait(dataset["id"])
    if dataset["status"] != "ready":
        raise UnavailableError(f"the dataset is {dataset['status']}: {dataset['error_message']}")
    talk.step(
        f"ready: {dataset['total_conversations']} conversations, {dataset['total_training_pairs']} training pairs, "
        f"{dataset['total_tokens']:,} tokens ({dataset['tokens_source']})"
    )
    job = client.jobs.create(
        dataset_id=dataset["id"], preset_id="balanced", base_model="tiny", name="Demo", hyperparameters=SETTINGS
    )
    talk.step("training a LoRA adapter on the built-in tiny model")

    def report(job: dict[str, Any]) -> None:
        loss = f", loss {job['training_loss']:.3f}" if job.get("training_loss") is not None else ""
        talk.progress(f"{job['status']} {job['stage'] or ''} {float(job['progress']):.0f} %{loss}")

    job = client.jobs.wait(job["id"], report)
    if job["status"] != "completed":
        raise UnavailableError(f"the training job is {job['status']}: {job['error_message']}")
    talk.step(f"the model is stored; downloading it as its user would (model {job['model_id']})")
    quality = client.models.get(job["model_id"])["quality_metrics"]
    archive = client.models.download(job["model_id"], directory / "demo-model.zip")
    adapter = directory / "demo-model"
    _unpack(archive, adapter)
    adapter_path = next(path.parent for path in adapter.rglob("adapter_config.json"))
    return {
        "dataset_id": dataset["id"],
        "dataset_status": dataset["status"],
        "job_id": job["id"],
        "job_status": job["status"],
        "model_id": job["model_id"],
        "adapter_path": str(adapter_path),
        "train_loss_first": job["train_loss_first"],
        "train_loss_last": job["train_loss_last"],
        "heldout_loss_base": job["heldout_loss_base"],
        "heldout_loss_adapter": job["heldout_loss_adapter"],
        "heldout_conversations": job["heldout_conversations"],
        "verdict": f"{quality['verdict'].replace('_', ' ').capitalize()}: {quality['verdict_reason']}",
        "seconds": round(time.monotonic() - talk.started, 1),
    }


def _unpack(archive: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive) as file:
        file.extractall(target)
