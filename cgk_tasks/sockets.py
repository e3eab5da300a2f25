"""A look at idle connections, which costs a microsecond; to ask the server costs a round trip."""

from __future__ import annotations

import select


def has_input(descriptor: int) -> bool:
    """Whether there is something to read. On a connection that waits for nothing that is mostly its end."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(0))
