"""What a job is given: who, what, which attempt, and its tenant's database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.extras import require_extra

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cgk_tasks.runs.steps import StepRecord
    from cgk_tasks.tenancy.database import TenantSession
    from cgk_tasks.tenancy.models import Tenant

P_co = TypeVar("P_co", covariant=True)
SaveCursor = Callable[[Any, "TenantSession | None"], None]


@dataclass
class JobContext(Generic[P_co]):
    """One attempt of one run. `attempt` counts from 1 and says how many tries there were, this one included."""

    job_id: str
    run_id: str
    event: str
    tenant: Tenant
    payload: P_co
    attempt: int = 1
    max_attempts: int = 1
    queued_at: datetime | None = None
    started_at: datetime | None = None
    scheduled_for: datetime | None = None
    """The nominal time of the tick that made the run, however late it runs; None where no schedule did."""

    has_database: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    """Room for middleware to leave something for the job."""

    cursor: Any = None
    """How far earlier attempts came: what was last given to `checkpoint`, or None."""

    save_cursor: SaveCursor | None = field(default=None, repr=False)
    """How the provider keeps a cursor."""

    step_record: StepRecord | None = field(default=None, repr=False)
    """How the provider keeps steps."""

    _session: TenantSession | None = field(default=None, repr=False)

    @property
    def tenant_id(self) -> str:
        return self.tenant.id

    @property
    def logger(self) -> structlog.stdlib.BoundLogger:
        """A logger whose lines carry tenant, event, run and attempt."""
        logger: structlog.stdlib.BoundLogger = structlog.get_logger("cgk_tasks.jobs").bind(job=self.job_id)
        return logger

    @property
    def db(self) -> Session:
        """The tenant's database session, opened at first use. Do not commit it.

        It commits together with the run's completion, so what the job wrote is there exactly once; it rolls back
        when the job raises. Raises ConfigurationError where no database is configured, UnknownTenantError.
        """
        if self._session is None:
            if not self.has_database:
                raise ConfigurationError("ctx.db needs a database.", hint="Set CGK_DATABASE_URL.")
            require_extra("worker", "ctx.db")
            from cgk_tasks.tenancy.database import TenantSession

            self._session = TenantSession(self.tenant)
            self._session.begin()
        return self._session

    def checkpoint(self, cursor: Any) -> None:
        """Keep what was done so far: commit `db` together with `cursor`, which a later attempt finds in `ctx.cursor`.

            for page in pages(after=ctx.cursor):
                ctx.db.execute(...)
                ctx.checkpoint(page.last_id)

        `cursor` is any JSON value. Raises StoreError when the run was taken from this attempt.
        """
        if self.save_cursor is not None:
            self.save_cursor(cursor, self._session)
        elif self._session is not None:
            self._session.commit()
        self.cursor = cursor

    @property
    def opened_session(self) -> TenantSession | None:
        """The session, if the job has used `db`."""
        return self._session

    def close_session(self) -> None:
        """Roll back what is not committed and give the connection back."""
        session, self._session = self._session, None
        if session is not None:
            session.close()
