"""The systems that are measured side by side. Each module has the tasks that its workers load, and its peers."""

from __future__ import annotations

from importlib import import_module

from peers.peer import Peer

MODULES = ("cgk", "celery", "dramatiq", "huey", "taskiq", "pgqueuer")


def all_peers() -> list[Peer]:
    return [peer for name in MODULES for peer in import_module(f"peers.{name}").PEERS]
