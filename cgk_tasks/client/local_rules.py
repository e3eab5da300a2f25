"""Rules that decide about sends, as the local provider keeps them: in memory, under its lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from cgk_tasks.admission.buckets import Bucket
from cgk_tasks.admission.declared import SendRules
from cgk_tasks.admission.rules import rule_name
from cgk_tasks.admission.send_rules import Batch, Debounce
from cgk_tasks.client.local_run import LocalRun
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.flow.send_rules import Rules, key_of, listed, with_keys
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import NewRun, RunHandle

Key = tuple[str, str, str]

_PRUNE_AT: Final = 1000


def ruled(runs: Sequence[NewRun], now: datetime) -> tuple[Sequence[NewRun], Rules]:
    """The runs with what their rules need, and those. Raises InvalidOptionError."""
    routes = ROUTES.current()
    rules = {event: its for event in {run.event for run in runs if run.is_ruled} if (its := routes.rules(event))}
    if not rules:
        return runs, rules
    return [with_keys(run, rules[run.event], now) if run.is_ruled else run for run in runs], rules


class LocalRules:
    """runs: all that the provider knows. add: begins a new run. cancel: cancels an open one. look_at: has a run looked
    at at a time.
    """

    def __init__(
        self,
        runs: Mapping[str, LocalRun],
        add: Callable[[NewRun], object],
        cancel: Callable[[str], object],
        look_at: Callable[[datetime, str], object],
    ) -> None:
        self._runs, self._add, self._cancel, self._look_at = runs, add, cancel, look_at
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._latest: dict[Key, str] = {}
        self._prune_at = self._prune_buckets_at = _PRUNE_AT

    def decide(self, run: NewRun, rules: SendRules, now: datetime) -> RunHandle:
        """What becomes of a send whose keys are known."""
        if not self._is_within_limits(run, rules, now.timestamp()):
            return RunHandle(run.id, instead="skipped")
        key = run.event, run.tenant_id, run.single_key or run.merge_key or ""
        known = self._runs.get(self._latest.get(key, ""))
        if run.merge_key is not None and known is not None and _waits(known, rules.merging):
            self._merge(run, known, rules.merging, now)
            return RunHandle(known.status.id, instead="merged")
        if run.single_key is not None and known is not None and not known.status.is_closed:
            if rules.singleton is None or rules.singleton.on_conflict == "skip":
                return RunHandle(known.status.id, instead="skipped")
            self._cancel(known.status.id)
        if run.single_key or run.merge_key:
            self._remember(key, run.id)
        self._add(run._replace(payload=listed([run])) if isinstance(rules.merging, Batch) else run)
        if isinstance(rules.merging, Batch) and rules.merging.size == 1:
            self._due(self._runs[run.id], now)
        return RunHandle(run.id)

    def _remember(self, key: Key, run_id: str) -> None:
        if len(self._latest) >= self._prune_at:
            known = ((one, self._runs.get(its)) for one, its in self._latest.items())
            self._latest = {one: run.status.id for one, run in known if run is not None and not run.status.is_closed}
            self._prune_at = max(_PRUNE_AT, 2 * len(self._latest))
        self._latest[key] = run_id

    def _is_within_limits(self, run: NewRun, rules: SendRules, now: float) -> bool:
        taken = {}
        for rule in rules.rate_limits:
            place = rule_name(run.event, rule), key_of(rule, run)
            known = self._buckets.get(place)
            bucket = Bucket(rule.limit, rule.step_seconds * rule.limit, rule.at_once, known.tat if known else 0.0)
            if bucket.free(now) < 1:
                return False
            taken[place] = bucket.after(1, now)
        if len(self._buckets) >= self._prune_buckets_at:
            self._buckets = {place: bucket for place, bucket in self._buckets.items() if bucket.tat > now}
            self._prune_buckets_at = max(_PRUNE_AT, 2 * len(self._buckets))
        self._buckets |= taken
        return True

    def _merge(self, run: NewRun, into: LocalRun, rule: Debounce | Batch | None, now: datetime) -> None:
        status = into.status
        if isinstance(rule, Debounce):
            latest = None if rule.max_wait is None or status.created_at is None else rule.max_wait_seconds
            due = run.run_at or now
            if latest is not None and status.created_at is not None:
                due = min(due, status.created_at + timedelta(seconds=latest))
            into.payload = run.payload
            into.status = replace(status, payload=decode(run.payload), run_at=due, expires_at=run.expires_at)
            self._look_at(due, status.id)
            if run.expires_at is not None:
                self._look_at(run.expires_at, status.id)
        elif rule is not None:
            into.payload = f"{into.payload[:-1]},{run.payload}]"
            into.status = replace(status, payload=decode(into.payload))
            if not _waits(into, rule):
                self._due(into, now)

    def _due(self, run: LocalRun, now: datetime) -> None:
        run.status = replace(run.status, run_at=now)
        self._look_at(now, run.status.id)


def _waits(run: LocalRun, rule: Debounce | Batch | None) -> bool:
    """Whether a run takes in further sends."""
    if run.status.state != "scheduled" or run.status.started_at is not None:
        return False
    return not isinstance(rule, Batch) or len(run.status.payload) < rule.size
