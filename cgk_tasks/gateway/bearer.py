"""Whoever makes a request, as the rest of the gateway sees it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Bearer(Protocol):
    """A key, or a browser's token. Its requests are counted by its id; the log has its prefix."""

    @property
    def id(self) -> str: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def scopes(self) -> tuple[str, ...]: ...
    @property
    def expires_at(self) -> datetime | None: ...
