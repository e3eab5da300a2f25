"""What the commands need of the application in the working folder: its record of runs, its events and jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgk_tasks.cli.output import say

if TYPE_CHECKING:
    from cgk_tasks.client import JobClient


def client() -> JobClient:
    """A client on the record of runs in PostgreSQL. Raises ConfigurationError when none is configured.

    Never the `local` provider: its runs live and die with the application's own process.
    """
    from cgk_tasks.client import create_job_client
    from cgk_tasks.config import get_settings

    get_settings().database  # noqa: B018 - raises when there is none
    return create_job_client("celery")


def sending_client() -> JobClient:
    """A client that sends where the application does: to a hosted system, else as `client()`."""
    from cgk_tasks.client import create_job_client
    from cgk_tasks.config import HOSTED_PROVIDERS, get_settings

    provider = get_settings().provider
    return create_job_client(provider) if provider in HOSTED_PROVIDERS else client()


def load_jobs() -> None:
    """Import CGK_JOB_MODULES, which define the application's events and jobs. One that fails is only a warning."""
    from cgk_tasks.builtin import register_builtin_jobs
    from cgk_tasks.config import get_settings

    register_builtin_jobs()
    if not get_settings().job_modules:
        return
    from cgk_tasks.jobs.registry import import_job_modules

    try:
        import_job_modules()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - anything can happen in an application's module
        say(f"warning: CGK_JOB_MODULES cannot be imported, so the application's own events are missing: {_told(error)}")


def _told(error: BaseException) -> str:
    from cgk_tasks.errors import CgkTasksError
    from cgk_tasks.jobs.registry import place_of

    if isinstance(error, CgkTasksError):
        return str(error)
    place = place_of(error)
    return f"{type(error).__name__}: {error}{'' if place is None else f' ({place})'}"
