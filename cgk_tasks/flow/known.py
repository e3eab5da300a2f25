"""What a sender knows of tenants, jobs, rules and waits: each is trusted for seconds, and then PostgreSQL is asked.

An event loop must not wait for the answers. So it looks first whether something would be asked, and has a thread ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final, NamedTuple

from cgk_tasks.admission.set_rules import SET_RULES, set_rules
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.runtime import Part, current_runtime
from cgk_tasks.sql.clock import CLOCK, database_now
from cgk_tasks.sql.loops import PerLoop
from cgk_tasks.tenancy import registry


class Kind(NamedTuple):
    """What must be known of a send. is_timed: whether it has options that are about times."""

    event: str
    tenant_id: str
    is_timed: bool


def is_known(kind: Kind) -> bool:
    """Whether such a send asks PostgreSQL nothing before its insert."""
    return (
        registry.is_known(kind.tenant_id)
        and SET_RULES.current().is_fresh
        and AWAITED.current().is_fresh
        and ROUTES.current().are_fresh(kind.event)
        and (not kind.is_timed or CLOCK.current().is_recent)
    )


def ask(kinds: AbstractSet[Kind]) -> None:
    """Ask what is not known. Of what is wrong the send itself tells."""
    set_rules()
    AWAITED.current().current()
    tenants = {kind.tenant_id for kind in kinds}
    with suppress(CgkTasksError):
        registry.learn(tenants)
    for tenant_id in tenants:
        with suppress(CgkTasksError):
            registry.require(tenant_id)
    for event in {kind.event for kind in kinds}:
        ROUTES.current().of(event)
    if any(kind.is_timed for kind in kinds):
        database_now()


class Asking:
    """Of one loop: one thread asks for all who send meanwhile."""

    def __init__(self) -> None:
        self._runtime = current_runtime()
        self._unknown: set[Kind] = set()
        self._task: asyncio.Task[None] | None = None

    async def know(self, kinds: AbstractSet[Kind]) -> bool:
        """Whether these sends ask nothing now, after a thread has asked if they would have."""
        if not (unknown := self._left(kinds)):
            return True
        self._unknown |= unknown
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask())
        await asyncio.shield(self._task)
        return not self._left(kinds)

    def _left(self, kinds: AbstractSet[Kind]) -> set[Kind]:
        return {kind for kind in kinds if not is_known(kind)}

    async def _ask(self) -> None:
        with self._runtime.active():
            while self._unknown:
                kinds, self._unknown = self._unknown, set()
                await asyncio.to_thread(ask, kinds)


ASKING: Final = Part(lambda: PerLoop(Asking))
