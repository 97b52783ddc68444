"""Carries batches out: leases items, sends, keeps every answer, writes conversations. `run.Run` is the door.

One cycle does what must be true before a request leaves and after an answer came, in one commit: settle what was
answered (raw text, usage, cost), lease as many new items as there are free places, write down what is about to be sent.
So the requests whose answers are not safe yet are never more than the batch's concurrency, and a kill at any moment
repeats at most those. Reading answers and writing rows follows behind, on a connection of its own.
"""
