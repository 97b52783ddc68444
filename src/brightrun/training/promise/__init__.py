"""What a run will take before it starts: memory, duration and cost, each with an interval and its parts.

`PROMISE.md` beside this file is the model, written up. Everything here is pure but `shape.py` and `machine.py`, which
look at files and at this machine; nothing loads torch.
"""
