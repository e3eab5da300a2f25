"""The scheduler of `celery -A cgk_tasks beat`: django-celery-beat's, with what it lacks.

One of several beats leads. Entries of SCHEDULES, and the schedules that tenants made, are ticked by our engine,
straight into the record of runs. Whatever else operators put into django-celery-beat's tables is sent by its own rules,
but with an idempotency key, and written back at once, so that a beat that dies cannot make it run twice.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
import structlog

from cgk_tasks.errors import CgkTasksError
from cgk_tasks.extras import require_extra

require_extra("beat", "Beat")

from cgk_tasks.schedules.django_setup import set_up_django, uses_own_settings  # noqa: E402

set_up_django()

import sqlalchemy as sa  # noqa: E402
from celery.beat import SchedulingError  # noqa: E402
from django.db import DatabaseError, InterfaceError  # noqa: E402 - Django's models need a set-up Django
from django.db.models import QuerySet  # noqa: E402
from django_celery_beat.models import PeriodicTask  # noqa: E402
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry  # noqa: E402

from cgk_tasks.recurring import RecurringWarning  # noqa: E402
from cgk_tasks.runs.text import text_of  # noqa: E402
from cgk_tasks.schedules.django_schema import require_own_schema  # noqa: E402
from cgk_tasks.schedules.engine import Engine  # noqa: E402
from cgk_tasks.schedules.entry_tenants import for_tenants  # noqa: E402
from cgk_tasks.schedules.failing_entries import FailingEntries  # noqa: E402
from cgk_tasks.schedules.leadership import Leadership  # noqa: E402
from cgk_tasks.schedules.lookup import all_schedules  # noqa: E402

log = structlog.get_logger("cgk_tasks.schedules")

_STANDBY_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 2.0
"""Within this time an operator's change or a tenant's new schedule is noticed, and the lease renewed."""
_AFTER_ERROR_SECONDS = 1.0
_RELOAD_SECONDS = 300.0
_OF_CELERYS_RESULTS = "celery.backend_cleanup"
"""A project that comes from Celery has a row for it. CGK_HISTORY_DAYS says how long runs are kept."""


class CgkScheduler(DatabaseScheduler):  # type: ignore[misc]  # django-celery-beat has no types
    """Named in the Celery setting `beat_scheduler`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._leadership = Leadership()
        self._engine = Engine(all_schedules())
        self._failing = FailingEntries()
        self._leads = False
        self._reload_at = 0.0
        self._unavailable = RecurringWarning(log, "beat_unavailable", "beat_available")
        self._saving: set[str] = set()
        super().__init__(*args, **kwargs)
        self.sync_every_tasks = 1  # save on fire
        self.max_interval: float = min(self.max_interval, _LONGEST_PAUSE_SECONDS)

    def setup_schedule(self) -> None:
        """Nothing yet: a standby must not write. The leader does it."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Make what is due, if this beat leads. Returns the seconds until the next look."""
        try:
            pause = self._tick(*args, **kwargs)
        except (psycopg.Error, sa.exc.SQLAlchemyError, DatabaseError, InterfaceError) as exc:
            self._unavailable.warn(reason=str(exc).strip(), hint="Is PostgreSQL up, and migrated?")
        except CgkTasksError as exc:
            self._unavailable.warn(reason=str(exc))
        else:
            self._unavailable.is_over()
            return pause
        self._reload_at = 0.0
        return _AFTER_ERROR_SECONDS

    def _tick(self, *args: Any, **kwargs: Any) -> float:
        if not self._leadership.take():
            self._leads = False
            return _STANDBY_SECONDS
        self._keep_in_step()
        pause = self._engine.tick()
        others: float = super().tick(*args, **kwargs)
        return min(pause, others, _LONGEST_PAUSE_SECONDS)

    def _keep_in_step(self) -> None:
        """Read the entries again after taking over, after an operator's change, and every few minutes."""
        now = time.monotonic()
        begins = not self._leads
        if begins and uses_own_settings():
            require_own_schema()
        changed = self._rows_changed()
        if begins:
            self.update_from_dict(self.app.conf.beat_schedule)
        if begins or changed or now >= self._reload_at:
            self._engine.reload()
            self._schedule = self.all_as_schedule()
            self._failing.reload(self._schedule)
            self._heap_invalidated = True
            self._reload_at = now + _RELOAD_SECONDS
        self._leads = True

    def _rows_changed(self) -> bool:
        """Whether the time of the last change is another one than at the last look.

        django-celery-beat asks whether it is later, and takes the first one it ever sees for known: a change that was
        made just after a beat's very first start, or by a machine whose clock is behind, was not noticed.
        """
        before = self._last_timestamp
        return bool(self.schedule_changed()) or self._last_timestamp != before

    @property
    def schedule(self) -> dict[str, ModelEntry]:
        """The entries that are not in SCHEDULES; `_keep_in_step` reads them."""
        return self._schedule or {}

    def update_from_dict(self, mapping: dict[str, Any]) -> None:
        """Write the application's own `beat_schedule` setting to the tables, as django-celery-beat does."""
        if mapping:
            self._schedule = dict(self._schedule or {})
            super().update_from_dict(mapping)

    def enabled_models_qs(self) -> QuerySet[PeriodicTask]:
        """Every enabled row that is not an entry of SCHEDULES, nor Celery's own for old results, which are runs here.

        All of them, not only those of the coming hours: a beat that was away must find what it missed.
        """
        return self.Model.objects.enabled().exclude(name__in=list(all_schedules())).exclude(task=_OF_CELERYS_RESULTS)

    def apply_entry(self, entry: ModelEntry, producer: Any = None) -> None:
        """Send an entry that is due. One that cannot be sent is marked as failing, and is not counted as run."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the other entries must go on
            error = exc.__context__ or exc if isinstance(exc, SchedulingError) else exc
            entry.model.total_run_count -= 1
            self._dirty.add(entry.name)
            self.sync()
            log.warning("entry_not_sent", entry=entry.name, task=entry.task, reason=text_of(error))
            self._failing.failed(entry.name, entry.task, error)
        else:
            self._failing.sent(entry.name)

    def apply_async(self, entry: ModelEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send an entry for its tenants. Those that can be sent are; then the first error is raised."""
        if advance:
            entry = self.reserve(entry)
        task = self.app.tasks.get(entry.task)
        if task is None or getattr(task, "durable", False):
            # Made of the fire before: a beat that dies before it has saved this one sends it with the same key again.
            key = f"beat:{entry.name}:{entry.last_run_at.isoformat()}"
            entry.options = {**entry.options, "idempotency_key": key}
        result, errors = None, []
        for one in for_tenants(entry):
            try:
                result = super().apply_async(one, producer=producer, advance=False, **kwargs)
            except SchedulingError as exc:
                errors.append(exc)
        if errors:
            raise errors[0]
        return result

    def sync(self) -> None:
        """Save what is not saved yet.

        Celery's handler of SIGTERM comes here in the midst of anything, this included, and its SystemExit goes through
        what it interrupted. What was being saved is then saved once more, at the end of beat.
        """
        if self._saving:
            return
        self._saving = set(self._dirty)
        try:
            super().sync()
        except BaseException:
            self._dirty |= self._saving
            raise
        finally:
            self._saving = set()

    def close(self) -> None:
        super().close()
        if self._leads:
            try:
                self._leadership.drop()
            except (psycopg.Error, sa.exc.SQLAlchemyError) as exc:
                log.warning("beat_not_deregistered", reason=str(exc).strip())
