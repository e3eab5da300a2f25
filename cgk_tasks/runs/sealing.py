"""The one door for what is kept of a run's content: from text to the bytes in the tables, and back.

Payloads, results, errors, cursors, canvas, log lines, steps, mail, the parts of chords and the payloads of tenants'
schedules are stored in columns whose names begin with `sealed_`, each row with the id of the key that its bytes are
sealed with (`key_id`). Today that is NULL, and the bytes are the text as UTF-8. Nothing else reads or writes these
columns: SQL moves the bytes and never looks into them. What the database must know of a run's content (to search, to
list, to group) has a plain column of its own.

A row keeps its key for as long as it is there: what is added to it later is sealed with the same one.

A large payload is not in the row of its run, which has a reference to it (`runs.bodies`). Opening one reads the other.
What is sealed with a key must not begin as a reference does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, overload

from cgk_tasks.errors import StoreError
from cgk_tasks.runs import bodies
from cgk_tasks.runs.bodies import is_reference

Kind = Literal[
    "payload", "result", "error", "cursor", "canvas", "deferral", "log_lines", "group_result", "group_error",
    "step_result", "step_error", "mail", "progress", "metadata",
]  # fmt: skip
"""What the text is. It belongs to the bytes, so that those of one kind cannot be passed off as those of another."""


def key_for(tenant_id: str) -> str | None:  # noqa: ARG001 - a tenant's own key is chosen here
    """The id of the key with which new rows of the tenant are sealed; None: they are not encrypted."""
    return None


@overload
def seal(tenant_id: str, kind: Kind, value: str, key_id: str | None = None) -> bytes: ...
@overload
def seal(tenant_id: str, kind: Kind, value: None, key_id: str | None = None) -> None: ...
@overload
def seal(tenant_id: str, kind: Kind, value: str | None, key_id: str | None = None) -> bytes | None: ...
def seal(tenant_id: str, kind: Kind, value: str | None, key_id: str | None = None) -> bytes | None:
    """The bytes that are stored for a text; None for none.

    value: mostly JSON, as `codec` writes it. key_id: of the row that the bytes are for (`key_for` for a new one).
    """
    if value is None:
        return None
    if key_id is not None:
        raise _unknown_key(tenant_id, kind, key_id)
    return value.encode()


@overload
def open_sealed(tenant_id: str, kind: Kind, data: bytes, key_id: str | None = None) -> str: ...
@overload
def open_sealed(tenant_id: str, kind: Kind, data: None, key_id: str | None = None) -> None: ...
@overload
def open_sealed(tenant_id: str, kind: Kind, data: bytes | None, key_id: str | None = None) -> str | None: ...
def open_sealed(tenant_id: str, kind: Kind, data: bytes | None, key_id: str | None = None) -> str | None:
    """The text that was sealed; None for none. A large payload is looked up where it is.

    Raises StoreError for a key that this process does not have, and for a payload that is not there any more.
    """
    if data is None:
        return None
    if kind == "payload" and is_reference(data):
        data = _body(tenant_id, data)
    if key_id is not None:
        raise _unknown_key(tenant_id, kind, key_id)
    return str(data, "utf-8")


def open_error(tenant_id: str, data: bytes | None, key_id: str | None = None) -> Mapping[str, Any] | None:
    """One entry of a run's errors."""
    text = open_sealed(tenant_id, "error", data, key_id)
    return None if text is None else json.loads(text)


def opened(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the database with its content as text: `sealed_payload` becomes `payload`, and so on.

    `sealed_errors` becomes `errors`, a list of dictionaries, and `sealed_error` becomes `error`, one of them. The row
    has `tenant_id` and `key_id`.
    """
    tenant_id, key_id = row["tenant_id"], row["key_id"]
    found: dict[str, Any] = {}
    for name, value in row.items():
        plain = name.removeprefix("sealed_")
        if plain == name:
            found[name] = value
        elif plain == "errors":
            found[plain] = _errors(tenant_id, value, key_id)
        elif plain == "error":
            found[plain] = open_error(tenant_id, value, key_id)
        else:
            found[plain] = open_sealed(tenant_id, cast("Kind", plain), value, key_id)
    return found


def opened_to_show(row: Mapping[str, Any]) -> dict[str, Any]:
    """Like `opened`, but with None for a large payload that is not there any more, so that the rest can be shown."""
    sealed = row["sealed_payload"]
    if sealed is not None and is_reference(sealed):
        sealed = bodies.find(row["tenant_id"], sealed)
    return opened({**row, "sealed_payload": sealed})


def _errors(tenant_id: str, sealed: Sequence[bytes] | None, key_id: str | None) -> list[Mapping[str, Any]]:
    return [json.loads(open_sealed(tenant_id, "error", one, key_id)) for one in sealed or ()]


def _body(tenant_id: str, reference: bytes) -> bytes:
    found = bodies.find(tenant_id, reference)
    if found is None:
        raise StoreError(
            f"A large payload of tenant {tenant_id!r}, which cgk.run_bodies had, is not there any more.",
            hint="It goes when its run is on record no longer. Was one table restored without the other?",
        )
    return found


def _unknown_key(tenant_id: str, kind: Kind, key_id: str) -> StoreError:
    return StoreError(
        f"The {kind} of a run of tenant {tenant_id!r} is sealed with the key {key_id!r}, which is not known here.",
        hint="Upgrade this process to the release of the one that wrote it.",
    )
