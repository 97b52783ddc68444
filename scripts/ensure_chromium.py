"""Make sure there is a Chromium for the browser tests, or say plainly how to get one.

As root on Debian or Ubuntu it is installed with apt-get; elsewhere the sentence printed here is all that happens, and
the browser tests are skipped (with CI set they fail instead: nothing silent).
"""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> int:
    if any(shutil.which(name) for name in NAMES):
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing Chromium for the browser tests", file=sys.stderr)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        if subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False, **quiet).returncode == 0:
            return 0
    print(
        "No Chromium found: the browser tests need one. Debian and Ubuntu: `apt-get install chromium`; "
        "macOS: `brew install --cask chromium`.",
        file=sys.stderr,
    )
    return 1 if os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
