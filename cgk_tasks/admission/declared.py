"""The limits of a job, and what decides about its runs when they are sent, as text: by it senders know them that do not
import the job.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rules import AtOnce, Limit, Throttle
from cgk_tasks.admission.send_rules import Batch, Debounce, RateLimit, SendRule, Singleton
from cgk_tasks.errors import ConfigurationError, as_seconds


class Declared(NamedTuple):
    """A job, its limits and the guards that it uses."""

    job: str
    limits: tuple[Limit | Guard, ...]


def text_of_limits(job: str, limits: Sequence[Limit | Guard]) -> str:
    """What `limits_of` reads. Guards stand apart: a process of an earlier release would not read them among the
    limits.
    """
    text: dict[str, Any] = {"job": job, "limits": [_values(one) for one in limits if not isinstance(one, Guard)]}
    if uses := [_fields(one) for one in limits if isinstance(one, Guard)]:
        text["uses"] = uses
    return json.dumps(text)


def _values(limit: Limit) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": limit.kind, "limit": limit.limit, "per": limit.per, "key": limit.key}
    if isinstance(limit, AtOnce):
        return values | {"lend_to": limit.lend_to}
    return values | {"every": limit.period, "burst": limit.burst}


@lru_cache(maxsize=1024)
def limits_of(text: str) -> Declared:
    """A job's limits from their text."""
    read = json.loads(text)
    guards = [guard for values in read.get("uses", ()) if (guard := _guard(values)) is not None]
    return Declared(read["job"], (*[_limit(**values) for values in read["limits"]], *guards))


def _limit(kind: str, **values: Any) -> Limit:
    return AtOnce(**values) if kind == AtOnce.kind else Throttle(**values)


def _guard(values: dict[str, Any]) -> Guard | None:
    """None where only a later release understands it: then the worker sees to it."""
    try:
        return Guard(**{name: value for name, value in values.items() if name != "kind"})
    except (TypeError, ConfigurationError):
        return None


class SendRules(NamedTuple):
    """What decides about the runs of an event when they are sent, as its job says. ttl: seconds from when a run is due,
    after which it does not start any more.
    """

    job: str
    ttl: float | None = None
    rules: tuple[SendRule, ...] = ()

    @property
    def singleton(self) -> Singleton | None:
        return next((rule for rule in self.rules if isinstance(rule, Singleton)), None)

    @property
    def merging(self) -> Debounce | Batch | None:
        """What makes one run of several sends."""
        return next((rule for rule in self.rules if isinstance(rule, Debounce | Batch)), None)

    @property
    def rate_limits(self) -> list[RateLimit]:
        return [rule for rule in self.rules if isinstance(rule, RateLimit)]


_KINDS: Final = {rule.kind: rule for rule in (Singleton, Debounce, RateLimit, Batch)}


def text_of_send_rules(rules: SendRules) -> str | None:
    """What `send_rules_of` reads. None where there is nothing to decide."""
    if rules.ttl is None and not rules.rules:
        return None
    return json.dumps({"job": rules.job, "ttl": rules.ttl, "rules": [_fields(rule) for rule in rules.rules]})


def _fields(rule: SendRule | Guard) -> dict[str, Any]:
    values = {"kind": rule.kind, **asdict(rule)}
    return {name: as_seconds(value) if isinstance(value, timedelta) else value for name, value in values.items()}


@lru_cache(maxsize=1024)
def send_rules_of(text: str) -> SendRules:
    """A job's rules from their text. One that only a later release understands says nothing here."""
    read = json.loads(text)
    rules = tuple(rule for values in read["rules"] if (rule := _send_rule(**values)) is not None)
    return SendRules(read["job"], read["ttl"], rules)


def _send_rule(kind: str, **values: Any) -> SendRule | None:
    try:
        made: SendRule = _KINDS[kind](**values)
    except (KeyError, TypeError, ConfigurationError):
        return None
    return made
