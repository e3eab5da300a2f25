"""The audit: who changed what by the command line or in Python. The dashboard writes its own lines there as well.

A line is written in the transaction of the change: what cannot be recorded does not happen, and what failed has no
line.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from cgk_tasks.config import get_settings
from cgk_tasks.sql.postgres import AnyConnection, execute, statements

SQL = statements("dashboard")

Via = Literal["cli", "python", "dashboard", "api"]

_via: Via = "python"
_is_recorded: ContextVar[bool] = ContextVar("cgk_action_is_recorded", default=False)
_acting: ContextVar[tuple[str, Via] | None] = ContextVar("cgk_acting", default=None)


@contextmanager
def by_command_line() -> Iterator[None]:
    """What this process changes in the block, in any thread, a person at a terminal changes."""
    global _via  # noqa: PLW0603 - one command line a process
    before, _via = _via, "cli"
    try:
        yield
    finally:
        _via = before


def actor() -> str:
    """Who acts in this process: CGK_ACTOR, or the user of the operating system."""
    name = get_settings().actor
    if name:
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return f"uid {os.getuid()}"


@contextmanager
def acting_as(who: str, via: Via) -> Iterator[None]:
    """What is changed in the block, somebody does who is known to the caller: the key of a request."""
    token = _acting.set((who, via))
    try:
        yield
    finally:
        _acting.reset(token)


@contextmanager
def recorded_elsewhere() -> Iterator[None]:
    """The caller writes a line of its own for what happens in the block, so that `note` writes none."""
    token = _is_recorded.set(True)
    try:
        yield
    finally:
        _is_recorded.reset(token)


def note(
    connection: AnyConnection,
    action: str,
    subject: str,
    *,
    tenant_id: str | None = None,
    by: str = "",
    affected: int = 1,
    message: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a line for a change, in its transaction. by: who did it, if the caller knows better than `actor`."""
    if _is_recorded.get():
        return
    who, via = _acting.get() or (by or actor(), _via)
    values = {
        "who": who, "via": via, "action": action, "subject": subject, "tenant_id": tenant_id,
        "affected": affected, "message": message[:2000], "details": json.dumps(details or {}),
    }  # fmt: skip
    execute(connection, SQL["note_action"], values)


def forget_program_actions(connection: AnyConnection, days: int) -> None:
    """Drop lines of before so many days ago that programs wrote. Those of people stay."""
    execute(connection, SQL["forget_program_actions"], {"days": days})
