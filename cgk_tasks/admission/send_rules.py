"""Rules that decide about a run when it is sent, as its job's author declares them: `define_job(..., limits=[...])`.

They are about the sends of an event, of each tenant and, with `key`, of each value of a field of the payload. A value
that is out of range is refused where the rule is written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import ClassVar, Final, Literal, get_args

from cgk_tasks.admission.rule_checks import Per, check_count, check_duration, check_key, check_per, invalid
from cgk_tasks.errors import ConfigurationError, as_seconds

OnConflict = Literal["skip", "cancel_old"]

_LARGEST_BATCH: Final = 10_000
"""Its payloads are in memory together."""


@dataclass(frozen=True)
class Singleton:
    """At most one open run. A run is open from its send to its end, retries and waits included.

    key: a field of the payload, by its name there; then one for each of its values. on_conflict: "skip", the send makes
    no run, and its handle is that of the open one; or "cancel_old", the open one is cancelled. Raises
    ConfigurationError for what it does not know.
    """

    kind: ClassVar[str] = "singleton"
    _: KW_ONLY
    key: str | None = None
    on_conflict: OnConflict = "skip"

    def __post_init__(self) -> None:
        check_key(self, self.key)
        if self.on_conflict not in get_args(OnConflict):
            raise invalid(self, "on_conflict", self.on_conflict, '"skip" or "cancel_old"')


@dataclass(frozen=True)
class Debounce:
    """One run for sends that follow each other: with the payload of the last, `delay` after it.

    delay, max_wait: seconds or timedelta; the run is due at most max_wait after the first send (None: however long they
    go on). key: as of Singleton. Raises ConfigurationError for a value out of range.
    """

    kind: ClassVar[str] = "debounce"
    delay: float | timedelta
    _: KW_ONLY
    max_wait: float | timedelta | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        check_key(self, self.key)
        check_duration(self, "delay", self.delay)
        if self.max_wait is not None:
            check_duration(self, "max_wait", self.max_wait)
            if as_seconds(self.max_wait) < as_seconds(self.delay):
                raise invalid(self, "max_wait", self.max_wait, f"at least the delay ({as_seconds(self.delay):g} s)")

    @property
    def delay_seconds(self) -> float:
        return as_seconds(self.delay)

    @property
    def max_wait_seconds(self) -> float | None:
        return None if self.max_wait is None else as_seconds(self.max_wait)


@dataclass(frozen=True)
class RateLimit:
    """How many sends are accepted in a time. The excess makes no run.

    limit: from 1, in `every` (seconds or timedelta), of each tenant, or with per="all" of all together. key: as of
    Singleton. burst: how many of them may come at once; the limit, if it is not given. Raises ConfigurationError for a
    value out of range.
    """

    kind: ClassVar[str] = "rate_limit"
    limit: int
    _: KW_ONLY
    every: float | timedelta
    burst: int | None = None
    per: Per = "tenant"
    key: str | None = None

    def __post_init__(self) -> None:
        check_per(self, self.per)
        check_key(self, self.key)
        check_count(self, "limit", self.limit)
        check_duration(self, "every", self.every)
        if self.burst is not None:
            check_count(self, "burst", self.burst)

    @property
    def at_once(self) -> int:
        """How many may come at once."""
        return self.limit if self.burst is None else self.burst

    @property
    def step_seconds(self) -> float:
        """What one costs at the rate."""
        return as_seconds(self.every) / self.limit


@dataclass(frozen=True)
class Batch:
    """One run for up to `size` sends, whose events are `ctx.payloads`, in their order.

    size: from 1 to 10,000. max_wait: seconds or timedelta after the first of them, when the run is due however many
    there are. key: as of Singleton. Raises ConfigurationError for a value out of range.
    """

    kind: ClassVar[str] = "batch"
    size: int
    _: KW_ONLY
    max_wait: float | timedelta
    key: str | None = None

    def __post_init__(self) -> None:
        check_key(self, self.key)
        check_count(self, "size", self.size, _LARGEST_BATCH)
        check_duration(self, "max_wait", self.max_wait)

    @property
    def max_wait_seconds(self) -> float:
        return as_seconds(self.max_wait)


SendRule = Singleton | Debounce | RateLimit | Batch

MERGING: Final = (Debounce, Batch)


def check_together(job_id: str, rules: Sequence[object]) -> None:
    """Raises ConfigurationError for rules of sends of which each would have to decide about the same run."""
    deciding = [rule for rule in rules if isinstance(rule, Singleton | Debounce | Batch)]
    if len(deciding) < 2:
        return
    first, second = deciding[:2]
    if type(first) is type(second):
        raise ConfigurationError(
            f"Job {job_id!r} has two rules of the kind {type(first).__name__}.",
            hint="Leave one out: each would have to decide about the same send.",
        )
    hint = "Leave one out."
    if isinstance(first, Singleton) or isinstance(second, Singleton):
        hint = "In place of Singleton use AtOnce(1, key=...), which keeps its runs from being on at once."
    raise ConfigurationError(
        f"Job {job_id!r}: {type(first).__name__} and {type(second).__name__} cannot go together.", hint=hint
    )
