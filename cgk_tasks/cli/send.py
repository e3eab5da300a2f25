"""`cgk-tasks send`: one event from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cgk_tasks.cli import application, exits, values
from cgk_tasks.cli.output import AsJson, examples, json_text, print_json, say

if TYPE_CHECKING:
    from cgk_tasks.client import WaitResult

EXAMPLES = examples(
    """cgk-tasks send order.created '{"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}'""",
    """cgk-tasks send system.cleanup '{"target": "logs"}' --tenant acme --wait 30""",
    """cgk-tasks send order.cancelled '{"orderId": "o-1"}' --tenant acme --delay 1d2h --key cancel-o-1""",
    "cat order.json | cgk-tasks send order.created - --at 2026-03-01T09:00:00+01:00",
)


_SAID: Final = {
    "deduplicated": "An earlier send with this key made this run; nothing new was sent.",
    "merged": "The event became part of this run, which an earlier send had made.",
    "skipped": "A rule of the event's job did not let this make a run: it has an open one, or too many were sent.",
}


def send(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Name of the event: cgk-tasks events list")],
    payload: Annotated[str, typer.Argument(metavar="JSON", help="The payload; - reads it from stdin.")],
    tenant: Annotated[str | None, typer.Option(help="Fills tenantId.")] = None,
    delay: Annotated[str | None, typer.Option(metavar="DURATION", help="Run later: 90s, 15m, 1d2h.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Run at a time: ISO 8601 with a time zone.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: a second send makes no second run.")] = None,
    queue: Annotated[str | None, typer.Option(help="Queue, in place of the default one.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 is urgent; the default is 5.")] = None,
    wait: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="Wait for the run's end and print its result."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send one event. Prints the id of its run, or with --wait its result."""
    data = _payload(payload, tenant)
    options = _options(delay, at, key, queue, priority)
    client = application.sending_client()
    application.load_jobs()
    if wait is not None:
        _refuse_unrecorded(event)
        _print_result(client.trigger_and_wait(event, data, timeout=wait, **options), as_json=as_json)
        return
    handle = client.send(event, data, **options)
    if as_json:
        print_json({"id": handle.id, "deduplicated": handle.deduplicated, "outcome": handle.outcome})
        return
    typer.echo(handle.id)
    if said := _SAID.get(handle.outcome):
        say(said)


def _payload(text: str, tenant: str | None) -> dict[str, Any]:
    try:
        data = values.json_object(text)
    except typer.BadParameter as error:
        raise typer.BadParameter(str(error), param_hint="JSON") from None
    if tenant is None:
        return data
    name = "tenant_id" if "tenant_id" in data else "tenantId"
    if data.setdefault(name, tenant) != tenant:
        raise typer.BadParameter(f"the payload is of tenant {data[name]!r}", param_hint="--tenant")
    return data


def _options(
    delay: str | None, at: str | None, key: str | None, queue: str | None, priority: int | None
) -> dict[str, Any]:
    if delay is not None and at is not None:
        raise typer.BadParameter("give --delay or --at, not both", param_hint="--delay")
    given = {
        "delay": None if delay is None else values.duration(delay),
        "run_at": None if at is None else values.time(at),
        "idempotency_key": key,
        "queue": queue,
        "priority": priority,
    }
    return {name: value for name, value in given.items() if value is not None}


def _refuse_unrecorded(event: str) -> None:
    from cgk_tasks.events.registry import get_event

    if not get_event(event).durable:
        raise typer.BadParameter(f"{event} is telemetry: its runs are not recorded", param_hint="--wait")


def _print_result(result: WaitResult, *, as_json: bool) -> None:
    if as_json:
        print_json({
            "id": result.run_id, "success": result.success, "result": result.data, "code": result.code,
            "message": result.message, "timed_out": result.timed_out,
        })  # fmt: skip
    elif result.success:
        say(f"run {result.run_id} completed")
        typer.echo(json_text(result.data))
    if not result.success:
        result.unwrap()
        raise typer.Exit(exits.FAILED)
