"""`python -m brightrun.trainer RUN_DIR`."""

import sys

from brightrun.trainer.environment import settle

if __name__ == "__main__":
    settle()
    from brightrun.trainer.main import main

    sys.exit(main(sys.argv[1:]))
