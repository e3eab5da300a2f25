"""What a job is given: who, what, which attempt, and its tenant's database."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, TypeVarTuple

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.extras import require_extra
from cgk_tasks.jobs.step_scope import is_in_step, session_of_step

if TYPE_CHECKING:
    import structlog
    from sqlalchemy.orm import Session

    from cgk_tasks.jobs.retry import RetryConfig
    from cgk_tasks.runs.report import RunReport
    from cgk_tasks.runs.steps import StepRecord
    from cgk_tasks.tenancy.database import TenantSession
    from cgk_tasks.tenancy.models import Tenant

P_co = TypeVar("P_co", covariant=True)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SaveCursor = Callable[[Any, "TenantSession | None"], None]


class JobSteps(Protocol):
    """The steps of an attempt."""

    @property
    def is_undone(self) -> bool: ...
    def undo(self) -> NoReturn: ...
    def step(self, name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any: ...
    def effect(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], reconcile: Callable[[str], Any] | None
    ) -> Any: ...
    def compensate(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], retry: RetryConfig | None
    ) -> None: ...


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

    open_session: Callable[[], TenantSession] | None = field(default=None, repr=False)
    """How the provider opens `db`. None: a session of the attempt's own."""

    step_record: StepRecord | None = field(default=None, repr=False)
    """How the provider keeps steps."""

    begin_steps: Callable[[JobContext[Any]], JobSteps] | None = field(default=None, repr=False)
    """How the provider does steps."""

    begin_report: Callable[[], RunReport] | None = field(default=None, repr=False)
    """How the provider shows what the job tells of its run."""

    batch: Sequence[P_co] = field(default=(), repr=False)
    """What `payloads` gives, where there are several."""

    _session: TenantSession | None = field(default=None, repr=False)
    _steps: JobSteps | None = field(default=None, repr=False)
    _report: RunReport | None = field(default=None, repr=False)

    @property
    def payloads(self) -> list[P_co]:
        """The events of a run of a job with a Batch, in the order in which they were sent; `payload` is the first of
        them. Of any other run, its one.
        """
        return list(self.batch) or [self.payload]

    @property
    def tenant_id(self) -> str:
        return self.tenant.id

    @property
    def logger(self) -> structlog.stdlib.BoundLogger:
        """A logger whose lines carry tenant, event, run and attempt."""
        import structlog

        logger: structlog.stdlib.BoundLogger = structlog.get_logger("cgk_tasks.jobs").bind(job=self.job_id)
        return logger

    @property
    def db(self) -> Session:
        """The tenant's database session, opened at first use. Do not commit it.

        It commits together with the run's completion, so what the job wrote is there exactly once; it rolls back
        when the job raises. In a step it is one of the step's own, which commits with that. Raises ConfigurationError
        where no database is configured, UnknownTenantError.
        """
        if is_in_step():
            return session_of_step(self.has_database)
        if self._session is None:
            if not self.has_database:
                raise ConfigurationError("ctx.db needs a database.", hint="Set CGK_DATABASE_URL.")
            require_extra("worker", "ctx.db")
            if self.open_session is not None:
                self._session = self.open_session()
                return self._session
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

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the run is. It is shown by `get_run`, `cgk-tasks runs follow` and the dashboard.

            for number, row in enumerate(rows, 1):
                ...
                ctx.progress(number, len(rows), f"order {row.id}")

        total: None where nobody knows. message: its first 500 characters are kept. Call it as often as you like: it is
        written four times a second at most, and once at the end. Raises PermanentError (INVALID_PROGRESS) for what is
        no amount.
        """
        self._its_report().show(done, total, message)

    @property
    def metadata(self) -> MutableMapping[str, Any]:
        """What else the run shows of itself while it runs, by name; of any attempt of it, the last value stays.

            ctx.metadata["file"] = "orders.csv"

        The values are what JSON can say, and are copied: set them again to change them. Written as `progress` is.
        Raises PermanentError (INVALID_RESULT, INVALID_METADATA, METADATA_TOO_LARGE) for what cannot be kept.
        """
        return self._its_report()

    def _its_report(self) -> RunReport:
        if self._report is None:
            from cgk_tasks.runs.report import RunReport

            self._report = RunReport() if self.begin_report is None else self.begin_report()
        return self._report

    def step(self, name: str, function: Callable[[*Ts], T], /, *args: *Ts) -> T:
        """Call the function once, and keep what it returns: another attempt of the run returns that, without a call.

            invoice = ctx.step("invoice", make_invoice, ctx.payload.order_id)
            ctx.step("mail", send_invoice, invoice)

        name: unlike those of other steps, or the n-th call is the n-th step of the name. An error is the job's own: the
        job is tried again by its policy, and the steps before are not done again.
        """
        found: T = self._its_steps().step(name, function, args)
        return found

    def effect(
        self,
        name: str,
        function: Callable[[str, *Ts], T],
        /,
        *args: *Ts,
        reconcile: Callable[[str], T | Any] | None = None,
    ) -> T:
        """A step for what must not happen twice elsewhere, as `WorkflowContext.effect`. While nobody can say whether it
        happened, the run waits for a signal, and the attempt ends.
        """
        found: T = self._its_steps().effect(name, function, args, reconcile)
        return found

    def compensate(
        self, name: str, function: Callable[[*Ts], object], /, *args: *Ts, retry: RetryConfig | None = None
    ) -> None:
        """Say what undoes what was done, if the run fails for good or is cancelled, as `WorkflowContext.compensate`.

        The job then runs once more along what is on record, and is stopped at the first step that is not.
        """
        self._its_steps().compensate(name, function, args, retry)

    def _its_steps(self) -> JobSteps:
        if self._steps is None:
            if self.begin_steps is None:
                raise ConfigurationError(
                    "Steps need somebody who keeps them.",
                    hint="Run the job with testing.run_job, LocalJobs or a worker.",
                )
            self._steps = self.begin_steps(self)
        return self._steps

    def undo_if_due(self) -> None:
        """Undo what the run has done, if it is to be and the job has said how. For whoever runs the job."""
        if self._steps is not None and self._steps.is_undone:
            self._steps.undo()

    @property
    def opened_session(self) -> TenantSession | None:
        """The session, if the job has used `db`."""
        return self._session

    def close_session(self) -> None:
        """Roll back what is not committed and give the connection back."""
        session, self._session = self._session, None
        if session is not None:
            session.close()
