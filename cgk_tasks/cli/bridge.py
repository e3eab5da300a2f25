"""`cgk-tasks bridge`: what waits in another system's queue becomes runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cgk_tasks.cli import application, exits
from cgk_tasks.cli.output import AsJson, DryRun, examples, print_facts, print_json, say

if TYPE_CHECKING:
    from cgk_tasks.bridges.bullmq import BullMQQueue
    from cgk_tasks.bridges.moving import MapJob, Moved
    from cgk_tasks.client import JobClient

commands = typer.Typer(
    help="Move what waits in another system's queue into runs.",
    epilog=examples("cgk-tasks bridge bullmq --queue orders --event order.created --redis redis://localhost --dry-run"),
    no_args_is_help=True,
    rich_markup_mode=None,
)

_EVERY_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_MOST_REASONS: Final = 20
_REPORT_EVERY: Final = 5_000


@commands.callback()
def _group() -> None:
    """A group, though it has one command."""


@commands.command(
    "bullmq",
    epilog=examples(
        "cgk-tasks bridge bullmq --queue orders --event order.created --dry-run",
        "cgk-tasks bridge bullmq --queue orders --event order.created --tenant-field shopId --follow",
        "cgk-tasks bridge bullmq --queue mails --map shop.bridge:mail_of --redis redis://localhost:6379/2",
    ),
)
def bullmq(
    queue: Annotated[str, typer.Option(metavar="NAME", help="The queue in BullMQ.")],
    redis_url: Annotated[
        str, typer.Option("--redis", metavar="URL", envvar="BULLMQ_REDIS_URL", help="Its Redis: redis://host:6379/0.")
    ],
    event: Annotated[str | None, typer.Option(help="What each job becomes: its data is the payload.")] = None,
    mapping: Annotated[
        str | None,
        typer.Option(
            "--map", metavar="MODULE:FUNCTION", help="Takes a BullMQJob, returns an event, or None to leave it."
        ),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="With --event: whose all jobs are.")] = None,
    tenant_field: Annotated[
        str, typer.Option(metavar="FIELD", help="With --event: the field of the data that has the tenant.")
    ] = "tenantId",
    name: Annotated[str | None, typer.Option(help="Only jobs of this name.")] = None,
    prefix: Annotated[str, typer.Option(help="With what BullMQ's keys begin.")] = "bull",
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is added, until Ctrl-C.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send what waits in a queue of BullMQ 5 or 6 as events, and remove each job there when it was sent.

    Waiting, prioritized and delayed jobs move; those that a worker has stay, and so do flows and what job schedulers
    made. Pause the queue first. It can be repeated: what was sent before is not sent again within
    CGK_IDEMPOTENCY_SECONDS. The exit code is 1 if a job had to stay.
    """
    import redis

    from cgk_tasks.errors import BrokerError

    if (event is None) == (mapping is None):
        raise typer.BadParameter("give --event or --map, one of them", param_hint="--event")
    if dry_run and follow:
        raise typer.BadParameter("--dry-run looks once", param_hint="--follow")
    client = application.client()
    application.load_jobs()
    mapped = _mapped(event, mapping, tenant, tenant_field)
    try:
        source = _queue(redis_url, queue, prefix)
        moved = _moved(source, mapped, client, name, follow=follow, dry_run=dry_run)
        counts = source.counts()
    except redis.RedisError as exc:
        raise BrokerError(f"The Redis of BullMQ cannot be reached or refused: {exc}.", hint="Look at --redis.") from exc
    _report(moved, counts, dry_run=dry_run, as_json=as_json)
    if moved.left:
        raise typer.Exit(exits.FAILED)


def _mapped(event: str | None, mapping: str | None, tenant: str | None, tenant_field: str) -> MapJob:
    from cgk_tasks.bridges.moving import to_event

    if event is not None:
        return to_event(event, tenant=tenant, tenant_field=tenant_field)
    module_name, _, function = (mapping or "").partition(":")
    from importlib import import_module

    try:
        found: MapJob = getattr(import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as exc:
        raise typer.BadParameter(f"{mapping} names no function: {exc}", param_hint="--map") from None
    return found


def _queue(url: str, name: str, prefix: str) -> BullMQQueue:
    import redis

    from cgk_tasks.bridges.bullmq import BullMQQueue
    from cgk_tasks.config.broker_url import redis_py_url
    from cgk_tasks.errors import ConfigurationError

    client = redis.Redis.from_url(
        redis_py_url(url, "--redis"), decode_responses=True, encoding_errors="surrogateescape", socket_timeout=30.0
    )
    found = BullMQQueue(client, name, prefix)
    if not found.exists():
        raise ConfigurationError(
            f"There is no queue {name!r} of BullMQ in this Redis.", hint="Look at --queue, --prefix and the database."
        )
    return found


def _moved(
    source: BullMQQueue, mapped: MapJob, client: JobClient, name: str | None, *, follow: bool, dry_run: bool
) -> Moved:
    """Pass after pass with `follow`, else one."""
    from cgk_tasks.bridges import moving
    from cgk_tasks.errors import QueueFullError, QuotaExceededError

    if not dry_run:
        moving.require_paused(source)
    moved, said = moving.Moved(), 0
    try:
        while True:
            before = moved.sent + moved.sent_before
            moved.begin_pass()
            try:
                for _ in moving.move(source, mapped, client, moved, name=name, dry_run=dry_run):
                    if moved.sent - said >= _REPORT_EVERY:
                        said = moved.sent
                        say(f"{said:,} jobs ...")
            except (QueueFullError, QuotaExceededError) as exc:
                if not follow:
                    raise
                say(f"{exc.text} Waiting.")
                time.sleep(min(exc.retry_after or 0.0, _LONGEST_PAUSE_SECONDS))
            if not follow:
                return moved
            if moved.sent + moved.sent_before == before:
                time.sleep(_EVERY_SECONDS)
    except KeyboardInterrupt:
        return moved


def _report(moved: Moved, counts: dict[str, int], *, dry_run: bool, as_json: bool) -> None:
    facts: dict[str, Any] = {
        "would_send" if dry_run else "sent": moved.sent,
        "sent_before": moved.sent_before,
        "passed_over": moved.passed_over,
        "left": sum(moved.left.values()),
        "active": counts["active"],
        "waiting_children": counts["waiting-children"],
    }
    reasons = [
        {"jobs": jobs, "reason": reason, "example": moved.examples[reason]}
        for reason, jobs in moved.left.most_common(_MOST_REASONS)
    ]
    if as_json:
        print_json({**facts, "reasons": reasons})
        return
    print_facts(facts)
    for one in reasons:
        say(f"{one['jobs']:,} left in BullMQ, like {one['example']}: {one['reason']}")
