"""Runs: the record of every execution, its store in PostgreSQL, and the way to the broker and back."""
