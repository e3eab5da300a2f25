"""The dashboard: pages on the record of runs. Flower is served beside it, at `/flower/`, with the same logins."""
