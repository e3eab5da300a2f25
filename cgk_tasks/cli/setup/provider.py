"""Which provider: given, configured, or asked for."""

from __future__ import annotations

from collections.abc import Iterable

from cgk_tasks.cli.output import say
from cgk_tasks.cli.setup.draft import Draft
from cgk_tasks.cli.setup.failure import SETTING, SetupFailure
from cgk_tasks.cli.setup.found import DATABASE, PROVIDER, Found
from cgk_tasks.cli.setup.questions import Questions

CELERY = "celery"
LOCAL = "local"

_CHOICES = {
    CELERY: "Celery workers, with PostgreSQL and a broker: runs are on record and survive everything",
    LOCAL: "inside the application's own process: no servers, and nothing survives it",
    "inngest": "an Inngest project that you have, until you move from it",
    "trigger.dev": "a Trigger.dev project that you have, until you move from it",
}


def settle_provider(wanted: str | None, questions: Questions, draft: Draft) -> str:
    """The provider, decided in the draft where it has to change. Raises SetupFailure."""
    found = draft.find(PROVIDER)
    if wanted is None and found is None:
        if draft.find(DATABASE):
            return CELERY  # as `Settings` decides
        wanted = _ask(questions)
    if wanted is None and found is not None and found.value not in _CHOICES:
        wanted = _mended(found, questions)
    if wanted is None or (found is not None and found.value == wanted):
        assert found is not None
        return found.value
    if found is not None and found.is_fixed:
        raise SetupFailure(SETTING, f"{found.name} is {found.value} in the environment, which wins. Change it there.")
    draft.set(PROVIDER, wanted)
    return wanted


def _ask(questions: Questions) -> str:
    if not questions.may_ask:
        return CELERY
    say("Where do jobs run?")
    return questions.choice("Provider", _CHOICES, default=CELERY, otherwise="Set JOBS_PROVIDER.")


def _mended(found: Found, questions: Questions) -> str:
    problem = f"{found.name} in {found.place}: There is no provider {found.value!r}."
    if found.is_fixed or not questions.confirm(f"{problem}\nChange it?"):
        raise SetupFailure(SETTING, f"{problem} Set it to {_or(_CHOICES)}.")
    return _ask(questions)


def _or(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"
