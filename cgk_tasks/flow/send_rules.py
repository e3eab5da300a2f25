"""What becomes of a send whose event has rules for it: RateLimit, Singleton, Debounce, Batch.

All is decided in the transaction of the sender. A row stays locked until that ends: of a bucket, of the run that takes
in sends, of the only run. So senders of one key come one after another, and what is rolled back has not happened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple

from cgk_tasks.admission.declared import SendRules
from cgk_tasks.admission.gates import gate_key
from cgk_tasks.admission.send_rules import Batch, Debounce, RateLimit, SendRule, Singleton
from cgk_tasks.admission.sends import Bucket, granted, lock
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.runs import insertion, merging
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import NewRun, RunHandle
from cgk_tasks.runs.plain_columns import search_fields
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import AnyConnection

CancelOld = Callable[[AnyConnection, str], list[NewRun]]
"""Cancels an open run in the transaction, so that another has its key. Returns the runs that this sends."""

_FOLLOWED: Final = ("link", "link_error", "chain", "chord", "group_id")
"""What a place in Celery's canvas has that waits for the end of this very run."""


class Stored(NamedTuple):
    """A handle for each send; and the runs that were made, with the sends that became part of one."""

    handles: list[RunHandle]
    made: list[NewRun]


Rules = Mapping[str, SendRules]
"""By event, as they are known when a send begins."""


def prepared(runs: Sequence[NewRun]) -> tuple[list[NewRun], Rules]:
    """The runs with what their rules need, and the rules. Raises InvalidOptionError, and psycopg.Error.

    While a worker of an earlier release lives, the rules do not count: it would not know what they make.
    """
    routes, counts, now = ROUTES.current(), SWITCH.current().decides_sends, database_now()
    rules = {event: its for event in {run.event for run in runs if run.is_ruled} if (its := routes.rules(event))}
    found = []
    for run in runs:
        its = rules.get(run.event) if run.is_ruled else None
        if its is not None and counts:
            found.append(with_keys(run, its, now))
        else:
            found.append(run._replace(is_ruled=False))
    return found, rules if counts else {}


def with_keys(run: NewRun, rules: SendRules, now: datetime) -> NewRun:
    """The run with the keys by which its rules know it; one that takes in further sends waits. Raises
    InvalidOptionError.
    """
    single, rule = rules.singleton, rules.merging
    _refuse_canvas(run, rules)
    if single is not None:
        run = run._replace(single_key=key_of(single, run))
    if rule is not None:
        if run.run_at is not None:
            name = type(rule).__name__
            raise InvalidOptionError(
                "delay",
                f"cannot be given for {run.event}, nor can run_at: {name} of its job says when its runs are due.",
                hint="Leave it out",
            )
        wait = rule.delay_seconds if isinstance(rule, Debounce) else rule.max_wait_seconds
        fields = search_fields(run.event, run.payload) if run.search_fields is None else run.search_fields
        due = now + timedelta(seconds=wait)
        run = run._replace(
            state="scheduled", run_at=due, merge_key=f"{rule.kind}:{key_of(rule, run)}", search_fields=fields,
            expires_at=run.expires_at if run.ttl is None else due + timedelta(seconds=run.ttl),
        )  # fmt: skip
    return run


def _refuse_canvas(run: NewRun, rules: SendRules) -> None:
    """A send that may make no run of its own cannot be what others wait for."""
    if run.canvas is None or not (found := [name for name in _FOLLOWED if name in decode(run.canvas)]):
        return
    for rule in rules.rules:
        if not isinstance(rule, Singleton) or rule.on_conflict == "skip":
            raise InvalidOptionError(
                found[0],
                f"cannot be given for {run.event}: {type(rule).__name__} of its job may leave the send without a run "
                "of its own, and then nothing would follow.",
                hint="Send it alone, or give what is in a canvas an event of its own",
            )


def key_of(rule: SendRule, run: NewRun) -> str:
    """What a rule knows a send by. Values of payloads are content, so there is a digest in their place; none is a key
    of its own.
    """
    per = rule.per if isinstance(rule, RateLimit) else "tenant"
    value = None if rule.key is None else key_fields(run.payload).get(rule.key)
    key = gate_key(per, run.tenant_id, value)
    return key if value is None else hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()


def key_fields(payload: str) -> Mapping[str, Any]:
    """The fields of an event, of its payload as JSON text; of the first of several. Empty for anything else."""
    found = decode(payload)
    if isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, dict) else {}


def stored(
    connection: AnyConnection,
    runs: Sequence[NewRun],
    hashes: Mapping[str, bytes],
    rules: Rules,
    cancel_old: CancelOld,
) -> Stored:
    """Make what the rules of these runs let be made. Raises IdempotencyConflictError, psycopg.Error."""
    earlier = insertion.reserve_keys(connection, [run for run in runs if run.idempotency_key], hashes)
    fresh = [run for run in runs if run.id not in earlier]
    decided = _Decided(connection, rules, cancel_old)
    decided.decide(fresh)
    fates = decided.fates
    _settle_keys(connection, [run for run in fresh if run.idempotency_key], fates)
    return Stored([handle_of(run, earlier, fates) for run in runs], decided.made)


def handle_of(run: NewRun, earlier: Mapping[str, str], fates: Mapping[str, RunHandle]) -> RunHandle:
    """The handle of a send. earlier: runs whose idempotency key was taken, with whose it is; fates: of the others."""
    if run.id not in earlier:
        return fates[run.id]
    first = fates.get(earlier[run.id])  # of the same send
    if first is None:
        return RunHandle(earlier[run.id], deduplicated=True)
    return first if first.outcome == "skipped" else RunHandle(first.id, deduplicated=True)


def _settle_keys(connection: AnyConnection, keyed: Sequence[NewRun], fates: Mapping[str, RunHandle]) -> None:
    skipped = [run for run in keyed if fates[run.id].outcome == "skipped"]
    moved = [(run, fate.id) for run in keyed if (fate := fates[run.id]).outcome != "skipped" and fate.id != run.id]
    if skipped:
        merging.free_keys(connection, skipped)
    if moved:
        merging.move_keys(connection, moved)


class _Decided:
    """What becomes of the sends of one transaction. fates: by the id of the run that each would have made."""

    def __init__(self, connection: AnyConnection, rules: Rules, cancel_old: CancelOld) -> None:
        self._connection = connection
        self._rules = rules
        self._cancel_old = cancel_old
        self.fates: dict[str, RunHandle] = {}
        self.made: list[NewRun] = []

    def decide(self, runs: Sequence[NewRun]) -> None:
        self._skip_excess(runs)
        kept = [run for run in runs if run.id not in self.fates]
        plain = [run for run in kept if run.single_key is None and run.merge_key is None]
        insertion.insert_fresh(self._connection, plain)
        self._accept(plain)
        for group in _by([run for run in kept if run.single_key or run.merge_key], _whose):
            self._decide_alike(group, self._rules[group[0].event])

    def _decide_alike(self, runs: Sequence[NewRun], rules: SendRules) -> None:
        """Sends of one event and key."""
        rule, single = rules.merging, rules.singleton
        if isinstance(rule, Debounce):
            self._debounce(runs, rule)
        elif isinstance(rule, Batch):
            self._collect(runs, rule)
        elif single is not None:
            for run in runs:
                self._make_single(run, single)

    def _accept(self, runs: Sequence[NewRun]) -> None:
        self.made += runs
        self.fates |= {run.id: RunHandle(run.id) for run in runs}

    def _skip_excess(self, runs: Sequence[NewRun]) -> None:
        """Those for which their buckets have no room."""
        limited = {run.id: found for run in runs if run.is_ruled and (found := _buckets(run, self._rules[run.event]))}
        groups = list(_by([run for run in runs if run.id in limited], lambda run: _places(limited[run.id])))
        if len(groups) > 1:
            lock(self._connection, [bucket for buckets in limited.values() for bucket in buckets])
        for group in groups:
            room = granted(self._connection, limited[group[0].id], len(group))
            self.fates |= {run.id: RunHandle(run.id, instead="skipped") for run in group[room:]}

    def _make_single(self, run: NewRun, rule: Singleton) -> None:
        while (holder := merging.insert_single(self._connection, run)) != run.id:
            if holder is None:
                continue
            if rule.on_conflict == "skip":
                self.fates[run.id] = RunHandle(holder, instead="skipped")
                return
            self.made += self._cancel_old(self._connection, holder)
        self._accept([run])

    def _debounce(self, runs: Sequence[NewRun], rule: Debounce) -> None:
        last = runs[-1]
        run_id = merging.debounce(self._connection, last, rule.max_wait_seconds)
        self._merge(runs, run_id, is_new=run_id == last.id)

    def _collect(self, runs: Sequence[NewRun], rule: Batch) -> None:
        while len(runs) >= rule.size:
            self._make_full(runs[: rule.size])
            runs = runs[rule.size :]
        while runs:
            first = runs[0]
            found = merging.collect(self._connection, first._replace(payload=listed(runs)), len(runs), rule.size)
            if found.run_id == first.id:
                self._merge(runs, first.id, is_new=True)
                return
            room = max(0, rule.size - (found.events - len(runs)))
            if room:
                merging.add_events(self._connection, found.run_id, runs[:room])
                self._merge(runs[:room], found.run_id, is_new=False)
            runs = runs[room:]

    def _make_full(self, runs: Sequence[NewRun]) -> None:
        """A run of as many sends as it takes, which need not wait for others."""
        first = runs[0]._replace(state="pending", run_at=None, merge_key=None)
        insertion.insert_fresh(self._connection, [first._replace(payload=listed(runs))])
        self._merge([first, *runs[1:]], first.id, is_new=True)

    def _merge(self, runs: Sequence[NewRun], run_id: str, *, is_new: bool) -> None:
        self.made += runs
        merged = RunHandle(run_id, instead="merged")
        self.fates |= dict.fromkeys([run.id for run in runs], merged)
        if is_new:
            self.fates[runs[0].id] = RunHandle(run_id)


def _buckets(run: NewRun, rules: SendRules) -> list[Bucket]:
    return [Bucket(run.event, rule, key_of(rule, run)) for rule in rules.rate_limits]


def _places(buckets: Iterable[Bucket]) -> list[tuple[str, str]]:
    return [bucket.place for bucket in buckets]


def _whose(run: NewRun) -> tuple[str, str, str]:
    return run.event, run.tenant_id, run.merge_key or run.single_key or ""


def _by(runs: Sequence[NewRun], key: Callable[[NewRun], Any]) -> Iterator[list[NewRun]]:
    """The runs that have one key, in their order; in the order of the keys, so that no two senders wait for each
    other.
    """
    return (list(group) for _, group in groupby(sorted(runs, key=key), key=key))


def listed(runs: Sequence[NewRun]) -> str:
    """Events as the payload of one run."""
    return f"[{','.join(run.payload for run in runs)}]"
