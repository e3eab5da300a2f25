"""`cgk-tasks webhooks`: where tenants want to be told, and whether it arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli.output import AsJson, examples, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from cgk_tasks.builtin.webhooks import Endpoint
    from cgk_tasks.inbound.sources import WebhookSource

commands = typer.Typer(
    help="Register, list, remove and enable the webhook endpoints of tenants, give them new secrets, and see what was "
    "delivered; and list the sources of webhooks that are received.",
    epilog=examples(
        "cgk-tasks webhooks add acme https://acme.example/hooks --topic 'order.*'", "cgk-tasks webhooks list",
        "cgk-tasks webhooks deliveries acme --state failed",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

TenantId = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")]
EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id, as `webhooks list` shows it.")]


def _row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "tenant_id": endpoint.tenant_id,
        "url": endpoint.url,
        "topics": ", ".join(endpoint.topics),
        "state": "active" if endpoint.is_on else "off",
        "reason": endpoint.switched_off_reason,
        "failing_since": endpoint.failing_since,
        "last_check": endpoint.check_outcome,
        "old_secret_until": endpoint.old_secret_until,
    }


@commands.command(
    "add",
    epilog=examples(
        "cgk-tasks webhooks add acme https://acme.example/hooks",
        "cgk-tasks webhooks add acme https://acme.example/hooks --topic 'order.*' --topic customer.created",
    ),
)
def add(
    tenant_id: TenantId,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to post: https://host/path.")],
    topics: Annotated[
        list[str] | None,
        typer.Option("--topic", help="order.created, order.* or *; may be given several times. Default: *."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register an endpoint, and print its secret: the receiver checks signatures with it."""
    from cgk_tasks.builtin.webhooks import add_endpoint

    endpoint = add_endpoint(tenant_id, url, topics or ("*",))
    facts = {"id": endpoint.id, "url": endpoint.url, "topics": ", ".join(endpoint.topics)}
    facts["secret"] = endpoint.secret.get_secret_value()
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


@commands.command("list", epilog=examples("cgk-tasks webhooks list", "cgk-tasks webhooks list acme --json"))
def list_endpoints(
    tenant_id: Annotated[
        str | None, typer.Argument(metavar="TENANT", help="Of this tenant only.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List endpoints, without their secrets. `off`: only failed for a day, or gone; `enable` switches it on again."""
    from cgk_tasks.builtin import webhooks

    rows = [_row(endpoint) for endpoint in webhooks.list_endpoints(tenant_id)]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            rows,
            ("id", "tenant_id", "url", "topics", "state", "reason", "failing_since", "last_check", "old_secret_until"),
        )
    else:
        say("No webhook endpoint is registered. Add one: cgk-tasks webhooks add TENANT URL")


@commands.command("remove", epilog=examples("cgk-tasks webhooks remove acme 01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11"))
def remove(tenant_id: TenantId, endpoint_id: EndpointId) -> None:
    """Forget an endpoint and its deliveries."""
    from cgk_tasks.builtin.webhooks import remove_endpoint

    remove_endpoint(tenant_id, endpoint_id)
    typer.echo(f"{endpoint_id}: removed")


@commands.command("enable", epilog=examples("cgk-tasks webhooks enable acme 01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11"))
def enable(tenant_id: TenantId, endpoint_id: EndpointId) -> None:
    """Switch an endpoint on again. To deliver what it missed, send `webhook.retry` with attempt 1 for each message."""
    from cgk_tasks.builtin.webhooks import enable_endpoint

    endpoint = enable_endpoint(tenant_id, endpoint_id)
    typer.echo(f"{endpoint.id}: {_row(endpoint)['state']}")


@commands.command(
    "rotate-secret",
    epilog=examples(
        "cgk-tasks webhooks rotate-secret acme 01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11",
        "cgk-tasks webhooks rotate-secret acme 01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11 --keep-old 0",
    ),
)
def rotate_secret(
    tenant_id: TenantId,
    endpoint_id: EndpointId,
    keep_old: Annotated[
        str, typer.Option(help="How long messages are signed with the old secret as well: 90m, 24h, 7d; 0 ends it now.")
    ] = "24h",
    as_json: AsJson = False,
) -> None:
    """Give an endpoint a new secret, and print it. Until the old one ends, receivers may check with either."""
    from cgk_tasks.builtin import webhooks
    from cgk_tasks.cli.values import duration

    endpoint = webhooks.rotate_secret(tenant_id, endpoint_id, keep_old=duration(keep_old))
    facts = {"id": endpoint.id, "secret": endpoint.secret.get_secret_value()}
    if as_json:
        print_json({**facts, "old_secret_until": endpoint.old_secret_until})
    else:
        print_facts({**facts, "old_secret_until": endpoint.old_secret_until})


@commands.command("deliveries", epilog=examples("cgk-tasks webhooks deliveries acme --state failed"))
def deliveries(
    tenant_id: TenantId,
    endpoint_id: Annotated[str | None, typer.Option("--endpoint", help="To this endpoint only.")] = None,
    state: Annotated[str | None, typer.Option(help="waiting, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List a tenant's deliveries, the newest first: attempts, the last answer, what went wrong."""
    from cgk_tasks.builtin import webhooks

    if state not in {None, "waiting", "delivered", "failed"}:
        raise typer.BadParameter(f"{state!r} is no state of a delivery: waiting, delivered or failed.")
    rows = webhooks.list_deliveries(tenant_id, endpoint_id, state=state, limit=limit)  # type: ignore[arg-type]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            rows,
            ("event_id", "topic", "endpoint_id", "state", "attempts", "status", "error", "attempted_at", "next_at"),
        )
    else:
        say("No delivery is on record.")


_OUTCOMES = ("accepted", "duplicate", "ignored", "refused", "unmapped", "failed")


@commands.command("sources", epilog=examples("cgk-tasks webhooks sources", "cgk-tasks webhooks sources --json"))
def sources(as_json: AsJson = False) -> None:
    """List where webhooks are received from, as @define_webhook of CGK_JOB_MODULES says, and how many came.

    secret: whether it is set here; `function`: one of the application's own looks it up. refused: by their signature;
    unmapped: the source's function failed.
    """
    from cgk_tasks.cli import application
    from cgk_tasks.inbound.counts import delivery_counts
    from cgk_tasks.inbound.sources import all_sources

    application.load_jobs()
    counted: dict[str, dict[str, Any]] = {}
    for one in delivery_counts():
        counts = counted.setdefault(one.source, {"last_at": one.last_at})
        counts[one.outcome] = one.deliveries
        counts["last_at"] = max(counts["last_at"], one.last_at)
    known = {source.name: _source_row(source) for source in all_sources()}
    rows = [known.get(name, {"name": name}) | counted.get(name, {}) for name in {**known, **counted}]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, ("name", "scheme", "event", "tenant", "secret", *_OUTCOMES, "last_at"))
    else:
        say("No source of webhooks is defined: @define_webhook, in a module of CGK_JOB_MODULES.")


def _source_row(source: WebhookSource) -> dict[str, Any]:
    tenant = "in the path" if source.tenant is None else "function" if callable(source.tenant) else source.tenant
    return {
        "name": source.name, "scheme": source.scheme, "event": source.event, "tenant": tenant,
        "secret": _secret_state(source),
    }  # fmt: skip


def _secret_state(source: WebhookSource) -> str:
    if callable(source.secret):
        return "function"
    from cgk_tasks.errors import CgkTasksError

    try:
        source.check()
    except CgkTasksError:
        return "missing"
    return "set"
