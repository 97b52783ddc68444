"""Failures in plain words: the class, the line that shows it, what to do, and a button where one can do it."""
