"""The PostgreSQL that BrightRun brings along: one server per data directory, shared by all our processes.

    with EmbeddedPostgres(data) as postgres:
        psycopg.connect(postgres.conninfo())

What keeps it whole is held by the kernel, never by a list of process ids: every member holds a shared `flock`, and the
server itself (with all its children) holds an exclusive one that it inherits, so that `kill -9` of anybody leaves
nothing stale. `locks.py` has the three locks, `home.py` says where the files are, `server.py` is the class.
"""

import sys

from brightrun.errors import ConfigurationError

if sys.platform == "win32":
    raise ConfigurationError(
        "The embedded PostgreSQL needs Linux or macOS. Set DATABASE_URL to a PostgreSQL server of your own."
    )

from brightrun.db.embedded.errors import EmbeddedPostgresError
from brightrun.db.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
