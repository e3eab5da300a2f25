"""What an execution has done, so that two can be compared: rows of the tenant's tables, HTTP requests, runs that were
sent, and whatever else a test watches.

Each source gives items, which have named fields. What differs between two executions that nothing disturbed, such as
times and random numbers, is not compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from psycopg import sql

from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.tenancy.context import tenant_context
from cgk_tasks.tenancy.models import Tenant

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SQL = statements("testing")

Item = Mapping[str, str]
Effects = Mapping[str, Sequence[Item]]
"""The items by where they are, such as `table orders`."""

_SHOWN: Final = 200
_MOST_COUNTED: Final = 10_000


class Request(Protocol):
    """A request as Werkzeug has it."""

    method: str
    full_path: str

    @property
    def headers(self) -> Any: ...
    def get_data(self) -> bytes: ...


class RequestLog(Protocol):
    """What keeps the requests of jobs: the fixture `httpserver` of pytest-httpserver."""

    @property
    def log(self) -> Sequence[tuple[Any, Any]]: ...


Watch = Mapping[str, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Watched:
    """What to look at. key_header: the name of the header by which the other side knows a request that comes again."""

    http: RequestLog | None
    key_header: str
    values: Watch


class Look:
    """What was there before an execution begins."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._requests = len(watched.http.log) if watched.http is not None else 0
        self._values = {name: look() for name, look in watched.values.items()}

    def effects(self, tenant: Tenant, run_id: str) -> Effects:
        """What the execution for this tenant, whose run this is, has done."""
        runs = _runs(tenant)
        names = {tenant.id: "<tenant>", tenant.schema_name: "<schema>", run_id: "<run>"}
        names |= {run["id"]: "<another run>" for run in runs if run["id"] != run_id}
        found: dict[str, list[dict[str, str]]] = {**_tables(tenant), **self._requests_made(), **self._changes()}
        found["runs"] = [{name: str(run[name]) for name in ("event", "job", "state")} for run in runs]
        return {place: [_alike(item, names) for item in items] for place, items in found.items()}

    def _requests_made(self) -> dict[str, list[dict[str, str]]]:
        """Those with a key count once: who answers them does not do twice what it knows by its key."""
        if self._watched.http is None:
            return {}
        requests, keys = [], set()
        for request, _response in self._watched.http.log[self._requests :]:
            key = request.headers.get(self._watched.key_header)
            known = request.method, request.full_path, key
            if key is None or known not in keys:
                keys.add(known)
                body = request.get_data().decode("utf-8", "replace")
                requests.append({"method": request.method, "path": request.full_path.rstrip("?"), "body": body})
        return {"HTTP requests": requests}

    def _changes(self) -> dict[str, list[dict[str, str]]]:
        """Of a number by how much it has changed."""
        found = {}
        for name, look in self._watched.values.items():
            before, after = self._values[name], look()
            if isinstance(before, int) and isinstance(after, int) and before <= after <= before + _MOST_COUNTED:
                found[name] = [{"counted": "1"}] * (after - before)
            elif isinstance(before, int | float) and isinstance(after, int | float):
                found[name] = [{"change": repr(after - before)}]
            else:
                found[name] = [{"value": repr(after)}]
        return found


def _runs(tenant: Tenant) -> list[dict[str, Any]]:
    with autocommit() as connection:
        return fetch(connection, SQL["runs_of_tenant"], {"tenant_id": tenant.id})


def _tables(tenant: Tenant) -> dict[str, list[dict[str, str]]]:
    from cgk_tasks.tenancy.database import tenant_session

    with tenant_context(tenant), tenant_session() as session:
        tables = fetch(session.connection(), SQL["tables_of_tenant"])
        return {f"table {table['name']}": _rows(session, table["name"], table["numbered"]) for table in tables}


def _rows(session: Session, table: str, numbered: Collection[str]) -> list[dict[str, str]]:
    query = f"SELECT to_json(t)::text AS row FROM {sql.Identifier(table).as_string(None)} t"  # noqa: S608 - a table's own name, quoted
    rows = [json.loads(row["row"]) for row in fetch(session.connection(), query)]
    return [{name: json.dumps(value) for name, value in row.items() if name not in numbered} for row in rows]


def _alike(item: Item, names: Mapping[str, str]) -> dict[str, str]:
    """With words in place of what each execution has its own of: its tenant, its runs."""

    def told(value: str) -> str:
        for own, name in names.items():
            value = value.replace(own, name)
        return value

    return {name: told(value) for name, value in item.items()}


class Comparison:
    """What two undisturbed executions agree in; by that others are judged."""

    def __init__(self, first: Effects, second: Effects) -> None:
        self._expected = first
        self._fields = {
            place: [name for name in _names(items) if _column(items, name) == _column(second.get(place, ()), name)]
            for place, items in first.items()
        }

    @property
    def found(self) -> list[str]:
        """What there is to be done once, in words."""
        return [f"{place}: {len(items)}" for place, items in self._expected.items() if items]

    def problems(self, seen: Effects) -> list[str]:
        """In what an execution differs from them, in words."""
        found = []
        for place in [*self._expected, *(place for place in seen if place not in self._expected)]:
            problem = self._problem(place, self._expected.get(place, ()), seen.get(place, ()))
            if problem is not None:
                found.append(problem)
        return found

    def _problem(self, place: str, expected: Sequence[Item], seen: Sequence[Item]) -> str | None:
        fields = self._fields.get(place, [])
        usual, now = _counted(expected, fields), _counted(seen, fields)
        more, missing = now - usual, usual - now
        if len(seen) > len(expected):
            return f"{place}: {len(seen)} instead of {len(expected)}, done twice{_example(more, fields)}"
        if len(seen) < len(expected):
            return f"{place}: {len(seen)} instead of {len(expected)}, lost{_example(missing, fields)}"
        if more:
            return f"{place}: it is otherwise than without the crash{_example(more, fields)}"
        return None


def _names(items: Sequence[Item]) -> list[str]:
    return list(dict.fromkeys(name for item in items for name in item))


def _column(items: Sequence[Item], name: str) -> Counter[str | None]:
    return Counter(item.get(name) for item in items)


def _counted(items: Sequence[Item], fields: Sequence[str]) -> Counter[tuple[str | None, ...]]:
    return Counter(tuple(item.get(name) for name in fields) for item in items)


def _example(items: Counter[tuple[str | None, ...]], fields: Sequence[str]) -> str:
    first = next(iter(items), None)
    if first is None or not fields:
        return ""
    text = " ".join(f"{name}={value}" for name, value in zip(fields, first, strict=True))
    return f" ({text[:_SHOWN]})"
