"""Configurations that are kept to be used again, and what tells two configurations apart."""
