"""Thousands of new runs as rows for COPY. What is the same for runs of a kind is written once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from cgk_tasks.runs.models import NewRun
from cgk_tasks.runs.plain_columns import search_fields, with_trace
from cgk_tasks.runs.sealing import key_for, seal
from cgk_tasks.sql.copying import NULL, bigint, binary, integer, length, row, smallint, timestamptz, uuid

_BEGINS: Final = row(22)
_BEGINS_IN_A_LANE: Final = row(24)
_NOTHING_ELSE: Final = (None,) * 8
_NO_OTHERS: Final = NULL * 8


class _Kind(NamedTuple):
    """begins: from the tenant to the priority. key: of the content. ends: when and how often dispatched, the lane."""

    begins: bytes
    key_id: str | None
    key: bytes
    ends: bytes


class RunRows:
    """The rows of runs, for the statements `copy_runs` and, of those that have a place in a lane, `copy_in_lanes`.

    now: by PostgreSQL's clock. kept_apart: what is in place of the payload, by run id. encoding: of the connection.
    """

    def __init__(self, now: datetime, kept_apart: Mapping[str, bytes], encoding: str) -> None:
        self._now = timestamptz(now)
        self._kept_apart = kept_apart
        self._encoding = encoding
        self._kinds: dict[tuple[Any, ...], _Kind] = {}

    def of(self, runs: Iterable[NewRun]) -> Iterator[bytes]:
        """Each of them. Raises ValueError for an id that is none."""
        kinds, apart, encoding = self._kinds, self._kept_apart, self._encoding
        for run in runs:
            tenant_id, place = run.tenant_id, run.place
            lane = None if place is None else place.lane
            key = (tenant_id, run.event, run.job, run.state, run.queue, run.priority, lane)
            kind = kinds.get(key)
            if kind is None:
                kind = kinds[key] = self._kind(run)
            payload = (apart and apart.get(run.id)) or seal(tenant_id, "payload", run.payload, kind.key_id)
            fields = run.search_fields
            if fields is None:
                fields = search_fields(run.event, run.payload)
            if run.trace is not None:
                fields = with_trace(fields, run.trace)
            searched = NULL if fields is None else binary(fields.encode(encoding))
            yield b"".join((
                _BEGINS if place is None else _BEGINS_IN_A_LANE, uuid(run.id), kind.begins,
                length(len(payload)), payload, self._others(run, kind.key_id), kind.key, searched,
                NULL,  # of no schedule
                self._now if run.run_at is None else timestamptz(run.run_at), kind.ends,
                b"" if place is None else timestamptz(place.rank),
            ))  # fmt: skip

    def _kind(self, run: NewRun) -> _Kind:
        due = run.state == "pending"
        key_id = key_for(run.tenant_id)
        return _Kind(
            b"".join((
                self._text(run.tenant_id), self._text(run.event), self._text(run.job), self._text(run.state),
                self._text(run.queue), smallint(2, run.priority),
            )),
            key_id,
            self._text(key_id),
            b"".join((
                self._now if due else NULL, smallint(2, int(due)),
                b"" if run.place is None else bigint(8, run.place.lane),
            )),
        )  # fmt: skip

    def _others(self, run: NewRun, key_id: str | None) -> bytes:
        """The columns that few runs have."""
        values = (
            run.max_attempts, run.expires_at, run.parent_id, run.replay_of, run.idempotency_key, run.canvas,
            run.scheduled_for, run.trace,
        )  # fmt: skip
        if values == _NOTHING_ELSE:
            return _NO_OTHERS
        attempts, expires_at, parent_id, replay_of, idempotency_key, canvas, scheduled_for, trace = values
        return b"".join((
            NULL if attempts is None else integer(4, attempts), NULL if expires_at is None else timestamptz(expires_at),
            NULL if parent_id is None else uuid(parent_id), NULL if replay_of is None else uuid(replay_of),
            self._text(idempotency_key), binary(seal(run.tenant_id, "canvas", canvas, key_id)),
            NULL if scheduled_for is None else timestamptz(scheduled_for), self._text(trace),
        ))  # fmt: skip

    def _text(self, value: str | None) -> bytes:
        return NULL if value is None else binary(value.encode(self._encoding))
