"""The keys of the HTTP API, and what they may do: for the gateway, the dashboard and the command line."""
