"""A client process to kill: `python upload_once.py FILE TARGET_JSON` uploads and prints its progress."""

import json
import sys
from pathlib import Path

from brightrun.storage.upload_client import UploadTarget, upload_file

target = UploadTarget.from_json(json.loads(sys.argv[2]))
upload_file(Path(sys.argv[1]), target, parallel=2, progress=lambda done, _total: print(done, flush=True))
