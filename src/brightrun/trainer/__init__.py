"""The program that trains: `python -m brightrun.trainer RUN_DIR` runs a prepared run directory, or resumes it.

It knows `brightrun.formats` and nothing else of ours: no database, no web. What it is told is in `run.json`, what it
says is in `events.jsonl`, how it ended is its exit code (`outcomes.py`). Importing this package is cheap.
"""
