"""The files that an application begins with: a module with a job, and a celeryconfig.py."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import cgk_tasks
from cgk_tasks.cli.setup.env_file import replace_file

MODULE = "jobs"
"""Its name where CGK_JOB_MODULES names none."""
EVENT = "hello.said"

_CHECKOUT = Path(cgk_tasks.__file__).parents[1]

_HEAD = '''\
"""The jobs of this application. Workers import this module: CGK_JOB_MODULES in .env.local names it."""

'''
_IMPORTS = """\
from cgk_tasks import JobContext, define_job
from cgk_tasks.events import TenantEvent
"""
_JOB = f'''\


class HelloSaid(TenantEvent, event="{EVENT}"):
    """An event is a fact about one tenant. The catalog has many: cgk-tasks events list"""

    name: str = "world"


@define_job("say-hello", event=HelloSaid)
def say_hello(ctx: JobContext[HelloSaid]) -> str:
    """A job is what you do about an event. What it returns is kept with the run."""
    return f"Hello {{ctx.payload.name}}, from {{ctx.tenant_id}}"
'''
_CELERYCONFIG = '''\
"""Celery's settings for this application: those of cgk_tasks, and below them what you change."""

from cgk_tasks.celeryconfig import *  # noqa: F403

# worker_concurrency = 4
# worker_max_tasks_per_child = 1000
'''


def make_celeryconfig() -> Path | None:
    """Make `celeryconfig.py` if there is none. Returns it if it is new."""
    path = Path("celeryconfig.py")
    elsewhere = find_spec("celeryconfig")
    # The one beside our own package belongs to a checkout of cgk_tasks, not to the application.
    if path.exists() or (elsewhere and elsewhere.origin != str(_CHECKOUT / path.name)):
        return None
    replace_file(path.absolute(), _CELERYCONFIG, mode=_new_file_mode())
    return path


def module_file(name: str) -> Path | None:
    """The file of a module in the working folder, there or not; None for packages and modules of elsewhere."""
    if not name.isidentifier() or Path(name).is_dir():
        return None
    path = Path(f"{name}.py")
    return path if path.exists() or find_spec(name) is None else None


def has_jobs(path: Path) -> bool:
    """Whether a module defines jobs, as far as its text tells."""
    return path.exists() and any(word in path.read_text(encoding="utf-8") for word in ("define_job", "define_cron_job"))


def write_starter(path: Path) -> None:
    """Make a module with one job, or add that job at the end of the one that is there."""
    if not path.exists():
        replace_file(path.absolute(), f"{_HEAD}{_IMPORTS}{_JOB}", mode=_new_file_mode())
        return
    before = path.read_text(encoding="utf-8").rstrip()
    text = f"{before}\n\n\n{_IMPORTS}{_JOB}" if before else f"{_HEAD}{_IMPORTS}{_JOB}"
    replace_file(path.resolve(), text, mode=path.stat().st_mode & 0o777)


def _new_file_mode() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return 0o666 & ~mask
