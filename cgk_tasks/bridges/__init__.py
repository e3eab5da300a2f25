"""Moving what waits in another system's queue into runs."""
