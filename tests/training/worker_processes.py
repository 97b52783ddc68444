"""A worker as the process it is, to be killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from brightrun.db.roles import DatabaseUrls
from live import Live


class WorkerProcess:
    """`brightrun worker` on the database and data directory of `live`.

    parent_fd: the read end of a pipe; when its other end closes, the worker takes `brightrun up` for dead.
    """

    def __init__(self, live: Live, urls: DatabaseUrls, log: Path, *, parent_fd: int | None = None) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BRIGHTRUN_")}
        environment |= {
            "BRIGHTRUN_WORKER_DATABASE_URL": urls.worker.render_as_string(hide_password=False),
            "BRIGHTRUN_SECRET_KEY": live.secret.decode(),
            "BRIGHTRUN_DATA": str(live.settings.data),
            "BRIGHTRUN_PUBLIC_URL": live.url,
            "BRIGHTRUN_WORKER_HEARTBEAT_S": "1",
            "BRIGHTRUN_JOB_LEASE_S": str(live.settings.job_lease_s),
            "BRIGHTRUN_MIN_FREE_DISK_BYTES": str(live.settings.min_free_disk_bytes),
        }
        if live.settings.gpu_catalogue is not None:
            environment["BRIGHTRUN_GPU_CATALOGUE"] = str(live.settings.gpu_catalogue)
        if parent_fd is not None:
            environment["BRIGHTRUN_INTERNAL_PARENT_FD"] = str(parent_fd)
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "brightrun", "worker"],
                env=environment,
                stdout=stream,
                stderr=stream,
                pass_fds=[] if parent_fd is None else [parent_fd],
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """As a service manager does."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(90) == 0


def trainer_of(live: Live, job_id: str) -> psutil.Process | None:
    """The living trainer of a job, found by its command line."""
    run_dir = str(live.settings.data / "runs" / job_id)
    for process in psutil.process_iter(["cmdline", "status"]):
        if run_dir in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            return process
    return None
