"""Rules: what limits the runs of a job, as its author declares it with `define_job(..., limits=[...])`.

Each rule says how much (`limit`), of whom (`per`: each tenant, or all together) and, with `key`, of which value of a
field of the payload. A value that is out of range is refused where the rule is written down.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import ClassVar, Final, Literal, NamedTuple, get_args

from cgk_tasks.admission.buckets import least_burst
from cgk_tasks.errors import LONGEST_WAIT_SECONDS, ConfigurationError, as_seconds

Per = Literal["tenant", "all"]

_LARGEST: Final = 1_000_000_000
_SHORTEST_SECONDS: Final = 0.001


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
        _check_whom(self)
        _check_count(self, "limit", self.limit)
        if self.lend_to is not None:
            _check_count(self, "lend_to", self.lend_to)
            if self.lend_to < self.limit:
                raise _invalid(self, "lend_to", self.lend_to, f"at least the limit ({self.limit})")


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
        _check_whom(self)
        _check_count(self, "limit", self.limit)
        _check_duration(self, "every", self.every)
        _check_count(self, "burst", self.burst)

    @property
    def period(self) -> float:
        return as_seconds(self.every)

    @property
    def burst_at_least(self) -> int:
        """The burst that counts."""
        return max(self.burst, least_burst(self.limit, self.period))


Limit = AtOnce | Throttle


def check_rules(job_id: str, rules: Sequence[Limit], fields: Collection[str] | None = None) -> None:
    """Raises ConfigurationError for rules that cannot go together, and for a key that is none of the payload's `fields`
    (None: they are not known).
    """
    for rule in rules:
        if not isinstance(rule, Limit):
            raise ConfigurationError(
                f"Job {job_id!r}: {rule!r} is no limit.",
                hint="Use AtOnce or Throttle.",
            )
        if rule.key is not None and fields is not None and rule.key not in fields:
            raise ConfigurationError(
                f"Job {job_id!r}: {_name(rule)} has the key {rule.key!r}, but its event has no such field.",
                hint=f"Use a field as the payload has it: {', '.join(sorted(fields)) or 'there are none'}.",
            )
    names = [rule_name(job_id, rule) for rule in rules]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ConfigurationError(
                f"Job {job_id!r} has two rules of the kind {_name(rules[place])} for the same runs.",
                hint="Leave one out, or give them different keys.",
            )


def rule_name(job_id: str, rule: Limit) -> str:
    """By which the rule is known, whatever its numbers are."""
    return "/".join([job_id, rule.kind, rule.per, *([] if rule.key is None else [rule.key])])


def _name(rule: Limit) -> str:
    return type(rule).__name__


def _check_whom(rule: Limit) -> None:
    if rule.per not in get_args(Per):
        raise _invalid(rule, "per", rule.per, '"tenant" or "all"')
    if rule.key is not None and (not isinstance(rule.key, str) or not rule.key or not rule.key.isprintable()):
        raise _invalid(rule, "key", rule.key, "the name of a field of the payload")


def _check_count(rule: Limit, option: str, value: object) -> None:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise _invalid(rule, option, value, "a whole number from 1")


def _check_duration(rule: Limit, option: str, value: object) -> None:
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        seconds = as_seconds(value)
        if math.isfinite(seconds) and _SHORTEST_SECONDS <= seconds <= LONGEST_WAIT_SECONDS:
            return
    raise _invalid(rule, option, value, f"at least {_SHORTEST_SECONDS:g} seconds, or a timedelta")


def _invalid(rule: Limit, option: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{_name(rule)}: {option} must be {expected}, not {value!r}.")


class Rule(NamedTuple):
    """A limit of a job; without a job, of all that a tenant has. is_declared: by the code, which says how much. Else
    the limit tells only whom it is for, and how much is on record.
    """

    job: str
    limit: Limit
    is_declared: bool = True

    @property
    def name(self) -> str:
        return rule_name(self.job, self.limit)


TENANT_AT_ONCE: Final = Rule("", AtOnce(1), is_declared=False)
TENANT_STARTS: Final = Rule("", Throttle(1, every=1), is_declared=False)
"""What a tenant may have of all jobs together."""


def set_rule(job: str, kind: str, per: Per, key: str | None) -> Rule:
    """A rule that was set on record for a job."""
    limit: Limit = AtOnce(1, per=per, key=key) if kind == AtOnce.kind else Throttle(1, every=1, per=per, key=key)
    return Rule(job, limit, is_declared=False)
