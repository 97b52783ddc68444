"""Language models for writing and judging: clients, prices, pacing, keys, terms, and the ledger of every request.

`calls` has the nouns (request, answer, outcome, what can go wrong) and imports nothing heavy; `access` makes a client
of what a workspace has set up; `ledger` keeps what was asked and what it cost.
"""
