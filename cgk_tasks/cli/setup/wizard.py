"""The set-up, step by step: settings, files, tables, and a run that proves it."""

from __future__ import annotations

import importlib
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from cgk_tasks.cli.doctor import database, work
from cgk_tasks.cli.doctor.findings import FAIL, Finding
from cgk_tasks.cli.doctor.printing import print_findings
from cgk_tasks.cli.migrate import bring_up_to_date
from cgk_tasks.cli.output import err, say
from cgk_tasks.cli.setup import env_file, starter
from cgk_tasks.cli.setup.draft import Draft
from cgk_tasks.cli.setup.failure import SERVER, SETTING, SetupFailure
from cgk_tasks.cli.setup.found import ENV_LOCAL, JOB_MODULES
from cgk_tasks.cli.setup.key import settle_key
from cgk_tasks.cli.setup.provider import CELERY, settle_provider
from cgk_tasks.cli.setup.questions import Questions
from cgk_tasks.cli.setup.servers import private_servers_exist, settle_servers
from cgk_tasks.cli.setup.trial import private_servers, try_a_worker, try_this_process
from cgk_tasks.config import HOSTED_PROVIDERS, get_settings, misspelt_in_files


@dataclass(frozen=True)
class Options:
    """provider: None for what is configured, or asked for."""

    provider: str | None = None
    verify_only: bool = False
    skip_env: bool = False
    may_ask: bool = True


def run(options: Options) -> None:
    """Set up the jobs of the working folder. Raises SetupFailure, or another CgkTasksError."""
    for problem in misspelt_in_files():
        say(f"warning: {problem}")
    if not options.verify_only:
        _require_writable_folder()
    draft, questions = Draft(), Questions(may_ask=options.may_ask and not options.verify_only)
    provider = settle_provider(options.provider, questions, draft)
    get_settings()  # raises for whatever else is wrong
    if provider in HOSTED_PROVIDERS:
        _set_up_hosted(provider, draft, questions, options)
        return
    private = settle_servers(questions, draft) if provider == CELERY else False
    if options.verify_only:
        _require_set_up(private=private)
    else:
        if provider == CELERY and not private:
            settle_key(draft)
        _write_files(draft, questions, skip_env=options.skip_env, with_celery=provider == CELERY)
    with private_servers(draft) if private else nullcontext():
        if provider == CELERY:
            _prepare_tables(verify_only=options.verify_only)
        _check_jobs()
        if provider == CELERY:
            try_a_worker()
        else:
            try_this_process()
    _tell_what_is_next(private=private, with_celery=provider == CELERY)


def _require_writable_folder() -> None:
    """Before the first question: the answers could not be kept."""
    try:
        with tempfile.TemporaryFile(dir=Path.cwd()):
            pass
    except OSError as exc:
        raise SetupFailure(
            SETTING,
            f"Nothing can be written to {Path.cwd()}: {exc.strerror}. "
            "Run it in a folder that you may write to; to check one that is set up, add --verify-only.",
        ) from exc


def _set_up_hosted(provider: str, draft: Draft, questions: Questions, options: Options) -> None:
    """Jobs run there, so there is nothing but settings, and no event is sent: it could start real work."""
    from cgk_tasks.cli.setup.hosted import settle_hosted

    settle_hosted(provider, questions, draft)
    if not options.verify_only:
        _write_env(draft, skip_env=options.skip_env)
    say(_HOSTED)


def _require_set_up(*, private: bool) -> None:
    """Private servers are started to verify them, but not made."""
    if private and not private_servers_exist():
        raise SetupFailure(SETTING, "Nothing is set up in this folder. Run: cgk-tasks setup jobs")


def _write_files(draft: Draft, questions: Questions, *, skip_env: bool, with_celery: bool) -> None:
    found = draft.find(JOB_MODULES)
    modules = found.value if found else starter.MODULE
    _write_starter(modules.split(",")[0].strip(), questions)
    if with_celery and (made := starter.make_celeryconfig()):
        say(f"{made}: made")
    if found is None:
        draft.set(JOB_MODULES, modules)
    importlib.invalidate_caches()
    _write_env(draft, skip_env=skip_env)


def _write_env(draft: Draft, *, skip_env: bool) -> None:
    if draft.changes and skip_env:
        say(f"{ENV_LOCAL}: left as it is. Set in the environment: {', '.join(draft.changes)}")
    elif draft.changes:
        env_file.write(ENV_LOCAL, draft.changes)
        say(f"{ENV_LOCAL}: {', '.join(draft.changes)} written; only you can read it")
        _warn_of_git(draft.changes)


def _write_starter(module: str, questions: Questions) -> None:
    path = starter.module_file(module)
    if path is None or starter.has_jobs(path):
        return
    if path.exists() and questions.may_ask and not questions.confirm(f"{path} has no job. Add one at its end?"):
        return
    existed = path.exists()
    starter.write_starter(path)
    say(f"{path}: {'a job added at the end' if existed else 'made, with a job to begin with'}")


def _warn_of_git(changes: Mapping[str, str]) -> None:
    """A file with passwords or keys does not belong into a repository."""
    if not any("://" in value or name.endswith(("_KEY", "_KEYS")) for name, value in changes.items()):
        return
    try:
        command = ["git", "check-ignore", "-q", str(ENV_LOCAL)]
        ignored = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    except OSError:  # no git here
        return
    if ignored.returncode == 1:
        say(f"warning: git does not ignore {ENV_LOCAL}, which holds passwords or keys. Add it to .gitignore.")


def _prepare_tables(*, verify_only: bool) -> None:
    from cgk_tasks import migrations

    if verify_only:
        finding = database.revision(migrations.current(), migrations.newest())
        if finding.level == FAIL:
            raise _broken(SERVER, finding)
        return
    before = migrations.current()
    after = bring_up_to_date()
    say(f"Tables: {'up to date' if before == after else 'made'}, at revision {after}")


def _check_jobs() -> None:
    finding = work.jobs()
    print_findings([finding], err())
    if finding.level == FAIL:
        raise _broken(SETTING, finding)


def _broken(exit_code: int, finding: Finding) -> SetupFailure:
    return SetupFailure(exit_code, f"{finding.message}\n{finding.advice}".rstrip())


_PRIVATE = """
It works. The private servers have stopped; this starts them again, with a worker, Beat and the dashboard:
  cgk-tasks dev
and in a second terminal:
  cgk-tasks tenants add acme
  cgk-tasks send EVENT '{}' --tenant acme --wait 30"""
_OWN = """
It works. Now start a worker, and register a tenant:
  celery -A cgk_tasks worker
  cgk-tasks tenants add acme
  cgk-tasks send EVENT '{}' --tenant acme --wait 30"""
_HOSTED = """
It works. send_job sends there now; functions and tasks are found by the events' names:
  cgk-tasks events list
To move to workers of your own later: cgk-tasks setup jobs --provider celery"""
_LOCAL = """
It works. Jobs run in the process that calls send_job, and are lost with it."""


def _tell_what_is_next(*, private: bool, with_celery: bool) -> None:
    text = _LOCAL if not with_celery else _PRIVATE if private else _OWN
    say(text.replace("EVENT", starter.EVENT))
