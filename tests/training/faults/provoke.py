"""Provoke real faults in real trainers and keep what the platform would see of them: `python provoke.py OUT.jsonl`.

Run by hand, as root on Linux (some faults need a small file system, or another user). Each case is what a supervisor
has at the end of an attempt: the verdict's code and message, and the end of trainer.log. Which class a case is of is
decided by what was done to the trainer, before anybody looks at its output.
"""

import contextlib
import http.server
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brightrun
from brightrun.formats.base_models import BUILTIN
from brightrun.formats.run_directory import prepare_run
from brightrun.training.executors.local import LocalExecutor
from brightrun.training.supervisor.outcomes import judge
from brightrun.training.supervisor.tail import last_event, log_tail

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
from job_steps import adviser_file  # noqa: E402

QUICK = {
    "learning_rate": 1e-3, "batch_size": 4, "epochs": 4, "rank": 4, "min_steps": 0, "checkpoint_every_steps": 2,
    "eval_every_steps": 10, "heldout_fraction": 0.2,
}  # fmt: skip
Prepare = Callable[[Path], None]


def new_run(place: Path, content: bytes | None = None, **options: Any) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    file = place / "turns.jsonl"
    file.write_bytes(content or adviser_file())
    overrides = QUICK | options.pop("overrides", {})
    prepare_run(file, place / "run", overrides=overrides, sample_prompts=0, **({"base_model": "tiny-random"} | options))
    for path in [place, *place.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return place / "run"


def edit(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    text = json.loads((run / "run.json").read_text())
    change(text)
    (run / "run.json").write_text(json.dumps(text))


def in_fork(run: Path, before: Callable[[], None]) -> int:
    """The trainer's main in a child of this process, whose imports are paid already; its exit code, as Popen's."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError):  # a directory that it may not write to
            log = os.open(run / "trainer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
        before()
        from brightrun.trainer.main import main

        os._exit(main([str(run)]))
    _pid, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def in_process(run: Path, environment: dict[str, str]) -> int:
    with (run / "trainer.log").open("ab") as log:
        return subprocess.run(
            [sys.executable, "-P", "-m", "brightrun.trainer", str(run)], stdout=log, stderr=log, timeout=240,
            env=os.environ | environment, check=False,
        ).returncode  # fmt: skip


def case(name: str, kind: str, run: Path, exit_code: int) -> dict[str, Any]:
    verdict = judge(exit_code, last_event(run))
    return {
        "id": name, "source": "real", "class": kind, "exit_code": exit_code, "code": verdict.code,
        "message": verdict.message, "evidence": log_tail(run / "trainer.log"),
    }  # fmt: skip


def neutral(item: dict[str, Any], root: Path) -> dict[str, Any]:
    """The case without the paths of the machine that it was provoked on."""
    places = {
        str(root): "/srv/runs", str(Path(brightrun.__file__).parents[1]): "/opt/brightrun", sys.prefix: "/opt/venv",
        sys.base_prefix: "/usr", str(Path(__file__).parents[3]): "/opt",
    }  # fmt: skip
    text = json.dumps(item, ensure_ascii=False)
    for place, name in places.items():
        text = text.replace(place, name)
    told: dict[str, Any] = json.loads(text)
    return told


class Hub(http.server.BaseHTTPRequestHandler):
    """Speaks as a model hub that refuses. `answer`: status, headers."""

    answer: tuple[int, dict[str, str]] = (404, {})

    def do_GET(self) -> None:
        status, headers = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 (the base class's word)

    def log_message(self, *_: object) -> None:
        return


def hub(answer: tuple[int, dict[str, str]]) -> str:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Hub,), {"answer": answer}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def model_folder(place: Path, change: Callable[[Path], None]) -> Path:
    import torch
    import transformers

    folder = place / "model"
    shutil.copytree(BUILTIN["tiny-random"], folder)
    torch.manual_seed(3)
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    change(folder)
    return folder


def patched(module: str, name: str, replacement: Callable[..., Any]) -> Callable[[], None]:
    def work() -> None:
        import importlib

        setattr(importlib.import_module(module), name, replacement)

    return work


def main(out: Path) -> None:
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import brightrun.trainer.finalize
    import brightrun.trainer.objectives
    import brightrun.trainer.session  # noqa: F401

    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    root.chmod(0o755)
    cases: list[dict[str, Any]] = []

    def forked(name: str, kind: str, run: Path, before: Callable[[], None] = lambda: None) -> None:
        cases.append(case(name, kind, run, in_fork(run, before)))
        print(name, cases[-1]["code"], cases[-1]["message"][:100], flush=True)

    def started(name: str, kind: str, run: Path, environment: dict[str, str]) -> None:
        cases.append(case(name, kind, run, in_process(run, environment)))
        print(name, cases[-1]["code"], cases[-1]["message"][:100], flush=True)

    # --- data -------------------------------------------------------------------------------------------------
    forked("bad rows", "data", new_run(root / "a1", adviser_file() + b"not json\n" + b'{"turns": []}\n'))
    run = new_run(root / "a2")
    next((run / "data").iterdir()).write_bytes(b"another file\n")
    forked("file changed", "data", run)
    question = json.dumps({"conversation_id": "q", "turns": [{"role": "user", "content": "Why?"}]}).encode()
    forked("nothing to train", "data", new_run(root / "a3", question + b"\n"))
    run = new_run(root / "a4")
    next((run / "data").iterdir()).unlink()
    forked("file missing", "data", run)

    # --- template and tokenizer -------------------------------------------------------------------------------
    def refusing(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text(
            "{% for m in messages %}{% if m.role == 'user' %}{{ raise_exception('Only the assistant may speak') }}"
            "{% endif %}{{ m.content }}{% endfor %}"
        )

    folder = model_folder(root / "t1", refusing)
    forked("template refuses", "template", new_run(root / "t1", base_model=str(folder)))

    def broken_template(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}")

    folder = model_folder(root / "t2", broken_template)
    forked("template does not parse", "template", new_run(root / "t2", base_model=str(folder)))
    folder = model_folder(root / "t3", lambda folder: (folder / "tokenizer.json").write_text('{"version": "1.0"}'))
    with contextlib.suppress(ValueError):
        forked("tokenizer damaged", "tokenizer", new_run(root / "t3", base_model=str(folder)))
    run = new_run(root / "t4")
    small = patched("brightrun.trainer.model", "embedding_rows", lambda _model: 8)
    forked("tokenizer of another model", "tokenizer", run, small)

    # --- memory -----------------------------------------------------------------------------------------------
    def greedy(*_: object) -> None:
        torch.empty(1 << 60)

    forked(
        "torch out of memory",
        "out_of_memory_host",
        new_run(root / "m1"),
        patched("brightrun.trainer.objectives", "collate", greedy),
    )

    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 8 * 2**20, used + 8 * 2**20))

    long = b"".join(
        json.dumps({"conversation_id": str(n), "turns": [
            {"role": "user", "content": "Tell me. " * 200}, {"role": "assistant", "content": "All of it. " * 900},
        ]}).encode() + b"\n" for n in range(8)
    )  # fmt: skip
    forked(
        "address space used up", "out_of_memory_host", new_run(root / "m2", long, overrides={"batch_size": 8}), limit
    )

    def numpy_greedy(*_: object) -> None:
        import numpy

        numpy.zeros(1 << 50)

    forked(
        "numpy out of memory",
        "out_of_memory_host",
        new_run(root / "m3"),
        patched("brightrun.trainer.objectives", "collate", numpy_greedy),
    )

    # --- disk -------------------------------------------------------------------------------------------------
    for name, size in (("disk full at a checkpoint", "260k"), ("disk full while it finishes", "420k")):
        place = root / name.replace(" ", "-")
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
        forked(name, "disk", new_run(place / "x"))
        subprocess.run(["umount", "-l", str(place)], check=False)

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    forked("file size limit", "disk", new_run(root / "d3"), small_files)
    place = root / "read-only"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=False)
    run = new_run(place / "x")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=False)
    try:
        LocalExecutor(place).launch(run, {"kind": "cpu"}, network=False)
    except OSError as error:  # as the starter puts it
        message = f"The trainer could not be started: {error}."
        told = {"exit_code": None, "code": "launch", "message": message, "evidence": ""}
        cases.append({"id": "read-only file system", "source": "real", "class": "disk", **told})
    subprocess.run(["umount", "-l", str(place)], check=False)

    # --- permission -------------------------------------------------------------------------------------------
    run = new_run(root / "p1")
    (run / "trainer.log").touch()
    (run / "trainer.log").chmod(0o666)
    forked("run directory not writable", "permission", run, lambda: os.setuid(65534))
    run = new_run(root / "p2")
    for path in [run, *run.rglob("*")]:
        shutil.chown(path, 65534, 65534)
    file = next((run / "data").iterdir())
    shutil.chown(file, 0, 0)
    file.chmod(0o600)
    forked("training file not readable", "permission", run, lambda: os.setuid(65534))
    folder = model_folder(root / "p3", lambda folder: (folder / "model.safetensors").chmod(0o600))
    run = new_run(root / "p3", base_model=str(folder))
    (folder / "model.safetensors").chmod(0o600)
    for path in [run, *run.rglob("*")]:
        shutil.chown(path, 65534, 65534)
    forked("weights not readable", "permission", run, lambda: os.setuid(65534))

    # --- hub, network, quota ----------------------------------------------------------------------------------
    def of_hub(place: str, name: str = "acme/expert-1b") -> Path:
        run = new_run(root / place)
        edit(run, lambda text: text.update(allow_hub=True))
        edit(run, lambda text: text["base_model"].update(name=name, kind="hub", folder=None, sha256=None))
        return run

    cache = {"HF_HOME": str(root / "hf"), "HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_ETAG_TIMEOUT": "2"}
    started("hub refused connection", "network", of_hub("h1"), cache | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    started("hub name unknown", "network", of_hub("h2"), cache | {"HF_ENDPOINT": "http://hub.invalid"})
    gated = hub(
        (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model acme/expert-1b is restricted."})
    )
    started("hub gated", "hub", of_hub("h3"), cache | {"HF_ENDPOINT": gated})
    absent = hub((404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}))
    started("hub no such model", "hub", of_hub("h4"), cache | {"HF_ENDPOINT": absent})
    unauthorised = hub((401, {"X-Error-Message": "Invalid username or password."}))
    started("hub unauthorised", "hub", of_hub("h5"), cache | {"HF_ENDPOINT": unauthorised})
    limited = hub((429, {"X-Error-Message": "You have reached your hourly quota of requests"}))
    started("hub rate limit", "quota", of_hub("h6"), cache | {"HF_ENDPOINT": limited})
    broken = hub((500, {}))
    started("hub broken", "hub", of_hub("h7"), cache | {"HF_ENDPOINT": broken})

    # --- stopped, diverged, wrong -----------------------------------------------------------------------------
    def killing(number: int) -> Callable[[], None]:
        def later() -> None:
            threading.Thread(target=lambda: (time.sleep(1.5), os.kill(os.getpid(), number)), daemon=True).start()

        return later

    long_run = {"epochs": 20, "batch_size": 1}
    forked("killed", "preempted", new_run(root / "k1", overrides=long_run), killing(signal.SIGKILL))
    forked("asked to stop", "preempted", new_run(root / "k2", overrides=long_run), killing(signal.SIGTERM))
    forked("hung up", "preempted", new_run(root / "k3", overrides=long_run), killing(signal.SIGHUP))
    forked("loss above the limit", "diverged", new_run(root / "v1", overrides={"divergence_loss": 0.01}))

    def spoiled(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"].fill_(float("nan"))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    forked("loss is no number", "diverged", new_run(root / "v2", base_model=str(model_folder(root / "v2", spoiled))))
    run = new_run(root / "c1")
    edit(run, lambda text: text["hyperparameters"].update(learning_rate=0.5))
    forked("learning rate out of range", "bad_configuration", run)
    forked("no such layers", "bad_configuration", new_run(root / "c2", overrides={"target_modules": "no_such_layer"}))
    run = new_run(root / "c3")
    edit(run, lambda text: text["base_model"].update(sha256="0" * 64))
    forked("base model changed", "bad_configuration", run)

    def cut(folder: Path) -> None:
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])

    with contextlib.suppress(ValueError):
        run = new_run(root / "c4", base_model=str(model_folder(root / "c4", lambda folder: None)))
        cut(root / "c4" / "model")
        edit(run, lambda text: text["base_model"].update(sha256=None))
        forked("weights cut off", "bad_configuration", run)

    def broken_code(*_: object) -> None:
        {}["missing"]

    forked("key error", "bug", new_run(root / "b1"), patched("brightrun.trainer.objectives", "collate", broken_code))

    def division(*_: object) -> None:
        1 // 0  # noqa: B018

    forked(
        "division by zero", "bug", new_run(root / "b2"), patched("brightrun.trainer.objectives", "collate", division)
    )

    def crash(*_: object) -> None:
        import ctypes

        ctypes.string_at(0)

    forked("native crash", "bug", new_run(root / "b3"), patched("brightrun.trainer.objectives", "collate", crash))
    shapes = lambda *_: torch.ones(2, 3) @ torch.ones(2, 3)  # noqa: E731
    forked(
        "shapes do not fit",
        "bug",
        new_run(root / "b4"),
        patched("brightrun.trainer.objectives", "token_losses", shapes),
    )
    out.write_text(
        "".join(json.dumps(neutral(item, root), ensure_ascii=False) + "\n" for item in cases), encoding="utf-8"
    )
    shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
