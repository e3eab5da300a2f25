"""Keys of a hosted system: configured, asked for and checked, as far as the system tells without an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cgk_tasks.cli.output import say
from cgk_tasks.cli.setup.draft import Draft
from cgk_tasks.cli.setup.failure import SERVER, SETTING, SetupFailure
from cgk_tasks.cli.setup.questions import Questions
from cgk_tasks.client import Health, create_job_client
from cgk_tasks.client.hosted import checked_url
from cgk_tasks.client.inngest import API, checked_event_key, checked_signing_key
from cgk_tasks.client.trigger_dev import CLOUD, checked_secret_key
from cgk_tasks.errors import ConfigurationError


@dataclass(frozen=True)
class _Key:
    """title: as questions name it. names: its variables. check: raises ConfigurationError for another form."""

    title: str
    names: tuple[str, ...]
    check: Callable[[str, bool], str]


@dataclass(frozen=True)
class _System:
    """url_names: the variable of a server of one's own. cloud: the address without it. unchecked: what no check
    shows.
    """

    title: str
    url_names: tuple[str, ...]
    cloud: str
    keys: tuple[_Key, ...]
    unchecked: str


SYSTEMS = {
    "inngest": _System(
        "Inngest", ("INNGEST_BASE_URL",), API,
        (
            _Key("event key", ("INNGEST_EVENT_KEY",), lambda value, _own: checked_event_key(value)),
            _Key(
                "signing key", ("INNGEST_SIGNING_KEY",), lambda value, own: checked_signing_key(value, own_server=own)
            ),
        ),
        "It knows the signing key. The event key is checked when the first event is sent.",
    ),
    "trigger.dev": _System(
        "Trigger.dev", ("TRIGGER_API_URL",), CLOUD,
        (
            _Key(
                "secret key", ("TRIGGER_SECRET_KEY", "TRIGGER_DEV_SECRET_KEY"),
                lambda value, _own: checked_secret_key(value),
            ),
        ),
        "It knows the secret key. Whether it has a task for each event shows when the first one is sent.",
    ),
}  # fmt: skip


def settle_hosted(provider: str, questions: Questions, draft: Draft) -> None:
    """Have keys that the system knows, decided in the draft. Raises SetupFailure."""
    system = SYSTEMS[provider]
    own_server = _settle_url(system, questions, draft)
    for key in system.keys:
        _settle_key(key, questions, draft, own_server=own_server)
    while not (health := _health(provider)).healthy:
        problem = " ".join(filter(None, (f"{system.title} cannot be used: {health.error}", health.hint)))
        changeable = [key for key in system.keys if not _is_fixed(key, draft)]
        if not changeable or not questions.confirm(f"{problem}\nEnter other keys?"):
            raise SetupFailure(SERVER, problem)
        for key in changeable:
            draft.set(key.names, _ask(key, questions, own_server=own_server))
    say(f"{system.title}: reached in {health.latency_seconds:.2f} s. {system.unchecked}")


def _settle_url(system: _System, questions: Questions, draft: Draft) -> bool:
    """Whether it is a server of one's own. Asked for only at the first set-up, when no key is there."""
    found = draft.find(system.url_names)
    if found is not None:
        try:
            checked_url(found.name, found.value)
        except ConfigurationError as error:
            raise SetupFailure(SETTING, f"{error} It stands in {found.place}.") from None
        return True
    if not questions.may_ask or any(draft.find(key.names) for key in system.keys):
        return False
    while True:
        url = questions.text(f"Address of {system.title}", suggestion=system.cloud, otherwise="")
        try:
            if checked_url(system.url_names[0], url) == system.cloud:
                return False
        except ConfigurationError as error:
            say(str(error))
            continue
        draft.set(system.url_names, url)
        return True


def _settle_key(key: _Key, questions: Questions, draft: Draft, *, own_server: bool) -> None:
    found = draft.find(key.names)
    try:
        key.check(found.value if found else "", own_server)
    except ConfigurationError as error:
        if found is not None and found.is_fixed:
            raise SetupFailure(SETTING, f"{error} It stands in {found.place}, which wins: change it there.") from None
        if found is not None:
            say(str(error))
            if not questions.confirm(f"Change {found.name} (from {found.place})?"):
                raise SetupFailure(SETTING, f"{error} It stands in {found.place}.") from None
        draft.set(key.names, _ask(key, questions, own_server=own_server))


def _ask(key: _Key, questions: Questions, *, own_server: bool) -> str:
    """Until it has the form of a key. Neither the question nor what is said shows it."""
    while True:
        value = questions.secret(
            f"The {key.title}, which is not shown ({key.names[0]})", otherwise=f"Set {key.names[0]}."
        )
        try:
            return key.check(value.strip(), own_server)
        except ConfigurationError as error:
            say(str(error))


def _is_fixed(key: _Key, draft: Draft) -> bool:
    found = draft.find(key.names)
    return found is not None and found.is_fixed


def _health(provider: str) -> Health:
    client = create_job_client(provider)
    try:
        return client.health_check()
    finally:
        client.close()
