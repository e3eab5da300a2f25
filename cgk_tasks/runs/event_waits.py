"""Runs that wait for events, on record: each event knows by the value of a field whose it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.ends import columns
from cgk_tasks.runs.models import NewRun
from cgk_tasks.runs.sealing import key_for, open_sealed, seal
from cgk_tasks.sql.postgres import AnyConnection, execute, fetch, statements

if TYPE_CHECKING:
    from cgk_tasks.runs.steps import Fence

SQL = statements("mail")

_KIND: Final = "event"


class EventKey(NamedTuple):
    """An event whose field has a value. Of the value there is a digest, since it is content."""

    event: str
    field: str
    value: str

    @classmethod
    def of(cls, event: str, field: str, value: Any) -> Self:
        """value: as JSON has it, or what is written so."""
        return cls(event, field, hashlib.sha256(encode(value, "Match").encode()).hexdigest()[:32])

    @property
    def mail(self) -> str:
        """The name of its mail."""
        return f"{_KIND} {self.event} {self.field} {self.value}"

    @classmethod
    def of_mail(cls, name: str) -> Self | None:
        """The event whose mail has this name; None for other mail."""
        parts = name.split(" ")
        return cls(*parts[1:]) if len(parts) == 4 and parts[0] == _KIND else None


class EventMail(NamedTuple):
    """payload: the event, as JSON text."""

    id: str
    payload: str


def note_awaited(connection: AnyConnection, fields: Mapping[str, Iterable[str]]) -> None:
    """Say which events workflows of this process wait for, and by which fields they know them."""
    events = sorted(fields)
    values = {"events": events, "fields": ["\n".join(sorted(fields[event])) for event in events]}
    execute(connection, SQL["note_awaited"], values)


def awaited(connection: AnyConnection) -> dict[str, tuple[str, ...]]:
    """The fields of the events that some workflow waits for."""
    return {row["event"]: tuple(row["fields"]) for row in fetch(connection, SQL["awaited"])}


def keys_of(run: NewRun, fields: Sequence[str]) -> list[EventKey]:
    """By which keys an event is waited for: of those fields that it has."""
    found = json.loads(run.payload)
    return [EventKey.of(run.event, field, found[field]) for field in fields if found.get(field) is not None]


_MAIL: Final = ("tenant_id", "event", "field", "value", "id", "key_id", "sealed_payload")


def keep(connection: AnyConnection, runs: Sequence[tuple[NewRun, Sequence[EventKey]]]) -> None:
    """Keep events for runs that wait for them now, or later."""
    rows = []
    for run, keys in runs:
        key_id = key_for(run.tenant_id)
        sealed = seal(run.tenant_id, "payload", run.payload, key_id)
        rows += [(run.tenant_id, *key, run.id, key_id, sealed) for key in keys]
    if rows:
        execute(connection, SQL["keep_event_mail"], columns(_MAIL, rows))


def wait(connection: AnyConnection, run: Fence, keys: Sequence[EventKey]) -> None:
    """Note what a run waits for, in the transaction that suspends it."""
    rows = [(*key, key.mail) for key in keys]
    values = columns(("event", "field", "value", "name"), rows)
    execute(connection, SQL["insert_event_waits"], {"id": run.id, "tenant_id": run.tenant_id, **values})


def waiting_for(connection: AnyConnection, tenant_id: str, key: EventKey) -> list[str]:
    """The runs that wait for an event."""
    rows = fetch(connection, SQL["waits_for_event"], {"tenant_id": tenant_id, **key._asdict()})
    return [row["run_id"] for row in rows]


def sent_since(connection: AnyConnection, run_id: str, tenant_id: str, key: EventKey) -> list[EventMail]:
    """What was sent of an event since the run was made and was not brought to it yet, the oldest first."""
    values = {"run_id": run_id, "tenant_id": tenant_id, "name": key.mail, **key._asdict()}
    rows = fetch(connection, SQL["event_mail_for"], values)
    return [_mail(tenant_id, row) for row in rows]


def missed(connection: AnyConnection, limit: int, minutes: int) -> list[tuple[str, str, EventMail]]:
    """Events that a run waits for and has not got, of so many minutes: the run, the name of the mail, the event."""
    rows = fetch(connection, SQL["missed_event_mail"], {"limit": limit, "minutes": minutes})
    return [(row["run_id"], row["name"], _mail(row["tenant_id"], row)) for row in rows]


def forget(connection: AnyConnection, days: int) -> None:
    """Forget what runs waited for that have ended, and the events of workflows that are gone for so many days."""
    execute(connection, SQL["forget_event_waits"])
    execute(connection, SQL["forget_awaited"], {"days": days})


def _mail(tenant_id: str, row: Mapping[str, Any]) -> EventMail:
    return EventMail(row["id"], open_sealed(tenant_id, "payload", row["sealed_payload"], row["key_id"]))
