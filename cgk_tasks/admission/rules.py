"""Limits: how many runs of a job may be on or start, as its author declares it with `define_job(..., limits=[...])`.

Each rule says how much (`limit`), of whom (`per`: each tenant, or all together) and, with `key`, of which value of a
field of the payload. A value that is out of range is refused where the rule is written down.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import ClassVar, Final, NamedTuple

from cgk_tasks.admission.buckets import least_burst
from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rule_checks import Per, check_count, check_duration, check_key, check_per, invalid
from cgk_tasks.admission.send_rules import SendRule, check_together
from cgk_tasks.errors import ConfigurationError, as_seconds


@dataclass(frozen=True)
class AtOnce:
    """How many run at once. The others wait, in order, and cost nothing while they do.

    limit: from 1, of each tenant, or with per="all" of all together. key: a field of the payload, by its name there;
    then the limit is for each of its values. lend_to: so many may run while nobody else waits in the queue. Raises
    ConfigurationError for a value out of range. A place is that of a packet: short runs that travel in one message run
    one after another.
    """

    kind: ClassVar[str] = "at_once"
    limit: int
    _: KW_ONLY
    lend_to: int | None = None
    per: Per = "tenant"
    key: str | None = None

    def __post_init__(self) -> None:
        check_per(self, self.per)
        check_key(self, self.key)
        check_count(self, "limit", self.limit)
        if self.lend_to is not None:
            check_count(self, "lend_to", self.lend_to)
            if self.lend_to < self.limit:
                raise invalid(self, "lend_to", self.lend_to, f"at least the limit ({self.limit})")


@dataclass(frozen=True)
class Throttle:
    """How many start in a time. The excess waits. A retry is a start too.

    limit: starts, from 1, in `every` (seconds or timedelta), of each tenant, or with per="all" of all together. key: as
    of AtOnce. burst: how many of them may come at once; of a rate above ten a second what it gives in 0.1 s may always.
    Raises ConfigurationError for a value out of range.
    """

    kind: ClassVar[str] = "throttle"
    limit: int
    _: KW_ONLY
    every: float | timedelta
    burst: int = 1
    per: Per = "tenant"
    key: str | None = None

    def __post_init__(self) -> None:
        check_per(self, self.per)
        check_key(self, self.key)
        check_count(self, "limit", self.limit)
        check_duration(self, "every", self.every)
        check_count(self, "burst", self.burst)

    @property
    def period(self) -> float:
        return as_seconds(self.every)

    @property
    def burst_at_least(self) -> int:
        """The burst that counts."""
        return max(self.burst, least_burst(self.limit, self.period))


Limit = AtOnce | Throttle
Rule = Limit | SendRule


def check_rules(job_id: str, rules: Sequence[Rule], fields: Collection[str] | None = None) -> None:
    """Raises ConfigurationError for rules that cannot go together, and for a key that is none of the payload's `fields`
    (None: they are not known).
    """
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ConfigurationError(
                f"Job {job_id!r}: {rule!r} is no limit.",
                hint="Use AtOnce, Throttle, RateLimit, Singleton, Debounce or Batch.",
            )
        if rule.key is not None and fields is not None and rule.key not in fields:
            raise ConfigurationError(
                f"Job {job_id!r}: {_name(rule)} has the key {rule.key!r}, but its event has no such field.",
                hint=f"Use a field as the payload has it: {', '.join(sorted(fields)) or 'there are none'}.",
            )
    check_together(job_id, rules)
    names = [rule_name(job_id, rule) for rule in rules]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ConfigurationError(
                f"Job {job_id!r} has two rules of the kind {_name(rules[place])} for the same runs.",
                hint="Leave one out, or give them different keys.",
            )


def rule_name(job_id: str, rule: Rule | Guard) -> str:
    """By which the rule is known, whatever its numbers are."""
    per = getattr(rule, "per", "tenant")
    return "/".join([job_id, rule.kind, per, *([] if rule.key is None else [rule.key])])


def _name(rule: Rule) -> str:
    return type(rule).__name__


class GateRule(NamedTuple):
    """A limit of a job; without a job, of all that a tenant has; or a guard, which has its own name there. is_declared:
    by the code, which says how much. Else the limit tells only whom it is for, and how much is on record.
    """

    job: str
    limit: Limit | Guard
    is_declared: bool = True

    @property
    def name(self) -> str:
        return rule_name(self.job, self.limit)


def guard_rules(limits: Sequence[Limit | Guard]) -> tuple[GateRule, ...]:
    """Those of the guards among these."""
    return tuple(GateRule(limit.name, limit) for limit in limits if isinstance(limit, Guard))


TENANT_AT_ONCE: Final = GateRule("", AtOnce(1), is_declared=False)
TENANT_STARTS: Final = GateRule("", Throttle(1, every=1), is_declared=False)
"""What a tenant may have of all jobs together."""


def set_rule(job: str, kind: str, per: Per, key: str | None) -> GateRule:
    """A rule that was set on record for a job."""
    limit: Limit = AtOnce(1, per=per, key=key) if kind == AtOnce.kind else Throttle(1, every=1, per=per, key=key)
    return GateRule(job, limit, is_declared=False)
