"""What a job says about its runs, in words: when they may start, how often they are tried, how long they may take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cgk_tasks.admission.declared import limits_of, send_rules_of
from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rules import AtOnce, Limit
from cgk_tasks.admission.send_rules import Batch, Debounce, RateLimit, SendRule, Singleton
from cgk_tasks.errors import as_seconds
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.job_events import Route
from cgk_tasks.workflows.define import Workflow


@dataclass(frozen=True, slots=True)
class Fact:
    """A thing that is so, in words."""

    name: str
    text: str


def facts_of_job(job: Job) -> Iterator[Fact]:
    """Of a job that this process has."""
    yield Fact("Retries", _retries(job.retry))
    limits = job.time_limits
    yield Fact(
        "Time limit",
        f"{exactly(limits.soft)}; a job that ignores it is ended after {exactly(limits.hard)}"
        if limits.soft
        else "none",
    )
    yield from _limits(job.limits)
    yield from _send_rules(job.send_rules)
    if job.ttl is not None:
        yield _ttl(job.ttl)
    yield from _route(job.queue, job.priority)
    if not job.redelivery:
        yield Fact("Redelivery", "none: a run whose worker is lost fails with WORKER_LOST")
    if job.shares_transaction:
        yield Fact("Transaction", "shared with other runs of its packet")
    if isinstance(job.handler, Workflow):
        numbers = sorted(job.handler.versions)
        yield Fact("Workflow", f"version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))} here")


def facts_of_route(route: Route) -> Iterator[Fact]:
    """Of a job that only workers have: what they have said."""
    if route.limits:
        yield from _limits(limits_of(route.limits).limits)
    if route.send_rules:
        rules = send_rules_of(route.send_rules)
        yield from _send_rules(rules.rules)
        if rules.ttl is not None:
            yield _ttl(rules.ttl)
    yield from _route(route.queue, route.priority)


def job_of_route(route: Route) -> str | None:
    """The one job of an event, where workers have said it."""
    if route.limits:
        return limits_of(route.limits).job
    return send_rules_of(route.send_rules).job if route.send_rules else None


def exactly(seconds: float) -> str:
    """A length of time as somebody wrote it: 90 s, 15 min, 1 h."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _retries(retry: RetryConfig) -> str:
    if retry.max_attempts == 1:
        return "none: one attempt"
    grows = {
        "exponential": f"{retry.factor:g} times as long each time", "linear": "longer by the same each time",
        "fixed": "always as long",
    }[retry.backoff]  # fmt: skip
    words = f"{retry.max_attempts} attempts; after the first failure {exactly(retry.initial_delay)}, then {grows}"
    if retry.backoff != "fixed":
        words += f", at most {exactly(retry.max_delay)}"
    if retry.jitter:
        words += "; each wait is shortened by up to a half, by chance"
    return words if retry.max_elapsed is None else f"{words}; no attempt later than {exactly(retry.max_elapsed)}"


def _limits(limits: Iterable[Limit | Guard]) -> Iterator[Fact]:
    for one in limits:
        if isinstance(one, Guard):
            yield Fact(
                "Guard", f"{one.name}: at most {one.at_once} at once{_whose(one.per, None)}, together with others"
            )
        elif isinstance(one, AtOnce):
            lent = "" if one.lend_to is None else f"; up to {one.lend_to} while nobody else waits"
            yield Fact("At once", f"at most {one.limit}{_whose(one.per, one.key)}{lent}")
        else:
            burst = f", {one.burst} of them at once" if one.burst > 1 else ""
            yield Fact(
                "Throttle", f"at most {one.limit} starts in {exactly(one.period)}{_whose(one.per, one.key)}{burst}"
            )


def _send_rules(rules: Iterable[SendRule]) -> Iterator[Fact]:
    for one in rules:
        whose = _whose(getattr(one, "per", "tenant"), one.key)
        match one:
            case Singleton():
                then = "a further send makes none" if one.on_conflict == "skip" else "a further send cancels it"
                yield Fact("Singleton", f"at most one open run{whose}; {then}")
            case Debounce():
                most = (
                    "" if one.max_wait_seconds is None else f", at most {exactly(one.max_wait_seconds)} after the first"
                )
                yield Fact("Debounce", f"one run{whose}, {exactly(one.delay_seconds)} after the last send{most}")
            case Batch():
                yield Fact(
                    "Batch", f"one run for {one.size} sends{whose}, or {exactly(one.max_wait_seconds)} after the first"
                )
            case RateLimit():
                period = exactly(as_seconds(one.every))
                yield Fact("Rate limit", f"at most {one.limit} sends accepted in {period}{whose}")


def _ttl(seconds: float) -> Fact:
    return Fact("Expires", f"{exactly(seconds)} after it is due, if it has not begun")


def _route(queue: str | None, priority: int | None) -> Iterator[Fact]:
    if queue is not None:
        yield Fact("Queue", queue)
    if priority is not None:
        yield Fact("Priority", str(priority))


def _whose(per: str, key: str | None) -> str:
    whose = " of each tenant" if per == "tenant" else " of all tenants together"
    return whose if key is None else f"{whose} and {key}"
