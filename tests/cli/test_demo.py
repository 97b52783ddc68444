"""`brightrun demo`: the whole way on real files; it ends with one line of JSON, and leaves no process behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from brightrun.formats import base_models
from up_process import processes_of
from waiting import eventually

SUMMARY = {
    "dataset_id",
    "dataset_status",
    "job_id",
    "job_status",
    "model_id",
    "adapter_path",
    "train_loss_first",
    "train_loss_last",
    "heldout_loss_base",
    "heldout_loss_adapter",
    "seconds",
}
# `up` inside may need a while for each start and stop on a busy machine.
LIMIT_S = 270
ENVIRONMENT = {**os.environ, "BRIGHTRUN_MIN_FREE_DISK_BYTES": "0"}


@pytest.fixture
def data() -> Iterator[Path]:
    # Reachable by the account that PostgreSQL runs as, which pytest's own directories are not.
    with tempfile.TemporaryDirectory(prefix="brightrun-demo-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def command(data: Path) -> list[str]:
    return [sys.executable, "-m", "brightrun", "demo", "--json", "--data", str(data)]


@pytest.mark.slow
def test_the_demo_proves_its_model_and_the_adapter_loads_after_it_ended(data: Path):
    done = subprocess.run(command(data), capture_output=True, text=True, timeout=LIMIT_S, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert set(summary) >= SUMMARY
    assert summary["dataset_status"] == "ready"
    assert summary["job_status"] == "completed"
    assert summary["heldout_loss_adapter"] < summary["heldout_loss_base"]
    assert summary["train_loss_last"] < summary["train_loss_first"]
    assert summary["seconds"] > 0
    eventually("no process is left", lambda: processes_of(data) == [])
    adapter = Path(summary["adapter_path"])
    assert adapter.exists()
    assert_adapter_loads(adapter)


def assert_adapter_loads(adapter: Path) -> None:
    """As somebody with PEFT and the base model would."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base_models.resolve("tiny").folder)
    model = PeftModel.from_pretrained(base, adapter)
    weights = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    assert weights
    # LoRA starts with B = 0: anything else was trained.
    assert all(weight.abs().sum() > 0 for weight in weights)


@pytest.mark.slow
def test_ctrl_c_while_it_trains_ends_with_130_and_leaves_nothing_running(data: Path):
    # Started as a shell starts what runs in its background: with SIGINT ignored.
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    deadline = Timer(LIMIT_S, process.kill)  # Closes the pipes, so that no read below waits for ever.
    deadline.start()
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.strip().startswith("running training"):
                break
        else:
            raise AssertionError("it never trained:\n" + "".join(said))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        deadline.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == 130, "".join(said) + err
    assert out == ""
    assert str(data) in err, "it says where everything is"
    assert "Traceback" not in err
    eventually("no process is left", lambda: processes_of(data) == [])
