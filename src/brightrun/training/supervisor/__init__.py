"""Looks after trainers: starts, follows, stops, resumes and settles them. `supervisor.Supervisor` is the door."""
