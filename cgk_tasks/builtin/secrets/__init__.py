"""Secrets at rest: tenants' credentials and webhook secrets are encrypted with CGK_ENCRYPTION_KEYS.

`sealing` does that to one secret, `rotation` to all that are stored. Only what reads or stores a secret loads the
library `cryptography`.
"""
