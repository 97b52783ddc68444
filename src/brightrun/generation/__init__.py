"""Conversations written: plans, prompts, one conversation, batches of any number, and what failed and why.

`plan` reads what is wanted, `prompts` makes requests of it, `answers` reads what came back; `engine` sends a batch's
items and keeps everything that came; `service` is the door for pages, API and command line.
"""
