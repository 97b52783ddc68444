"""Run a command with the wheel's PostgreSQL 16, started apart, as the server that the tests are given.

python scripts/with_postgres16.py .venv/bin/pytest tests/db
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sqlalchemy import URL

from brightrun.db.embedded import EmbeddedPostgres


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="brightrun-pg16-") as directory:
        data = Path(directory)
        data.chmod(0o755)
        with EmbeddedPostgres(data, version=16) as server:
            url = URL.create("postgresql", server.superuser, server.password, server.host, server.port, "postgres")
            environment = {**os.environ, "BRIGHTRUN_TEST_DATABASE_URL": url.render_as_string(hide_password=False)}
            return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
