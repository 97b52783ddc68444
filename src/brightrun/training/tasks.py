"""What training adds to other rooms in a worker. Training itself is no task of the queue: see `supervisor/`."""

from brightrun.training import service as _service  # noqa: F401  (its guard: a dataset in use is not deleted)
