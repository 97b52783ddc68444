"""Language models for writing and judging: clients, prices, pacing, and the ledger of every call.

`calls` has the nouns (request, answer, outcome, what can go wrong) and imports nothing heavy; `caller` is the one door
through which a request is bought: looked up in the ledger, reserved, written down, sent, settled.
"""
