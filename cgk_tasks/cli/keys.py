"""`cgk-tasks keys`: the keys of the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli.limit_options import By, Reason
from cgk_tasks.cli.output import AsJson, examples, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from datetime import timedelta

    from cgk_tasks.gateway import ApiKey

commands = typer.Typer(
    help="Make, list, rotate and revoke the keys of the HTTP API. A key is one tenant's.",
    epilog=examples(
        "cgk-tasks keys create acme --scope 'send:order.*' --scope read --name shop --expires 90d",
        "cgk-tasks keys list acme", "cgk-tasks keys rotate 01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as `keys list` shows it.")]
Expires = Annotated[
    str | None, typer.Option(help="How long it counts: 90d, 24h. Default: without an end; of `rotate`, as before.")
]

_COLUMNS = (
    "id", "tenant_id", "name", "prefix", "scopes", "state", "created_at", "created_by", "expires_at", "last_used_at",
)  # fmt: skip


def _row(key: ApiKey) -> dict[str, Any]:
    row = {name: getattr(key, name) for name in _COLUMNS}
    return row | {"scopes": ", ".join(key.scopes), "revoked_at": key.revoked_at}


def _show_new(key: ApiKey, as_json: bool) -> None:
    assert key.secret is not None
    facts = {name: _row(key)[name] for name in ("id", "tenant_id", "name", "scopes", "expires_at")}
    facts["key"] = key.secret.get_secret_value()
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
        say("The key is shown this once. Whoever has it may do what its scopes say.")


@commands.command(
    "create",
    epilog=examples(
        "cgk-tasks keys create acme --scope 'send:order.*' --name shop",
        "cgk-tasks keys create acme --scope read --scope operate --expires 90d --json",
    ),
)
def create(
    tenant_id: Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")],
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope", help="send:order.created, send:order.*, send:*, read or operate; may be given several times."
        ),
    ],
    name: Annotated[str, typer.Option(help="What it is for, for people.")] = "",
    expires: Expires = None,
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it. It is stored nowhere: the database has its digest."""
    from cgk_tasks.gateway import create_key

    _show_new(create_key(tenant_id, scopes, name=name, expires=_time(expires), by=by or "", reason=reason), as_json)


@commands.command("list", epilog=examples("cgk-tasks keys list", "cgk-tasks keys list acme --json"))
def list_keys(
    tenant_id: Annotated[
        str | None, typer.Argument(metavar="TENANT", help="Of this tenant only.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List keys, without their secrets, and when each was used last."""
    from cgk_tasks import gateway

    rows = [_row(key) for key in gateway.list_keys(tenant_id)]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, _COLUMNS)
    else:
        say("There is no key. Make one: cgk-tasks keys create TENANT --scope 'send:*'")


@commands.command(
    "rotate",
    epilog=examples(
        "cgk-tasks keys rotate 01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11",
        "cgk-tasks keys rotate 01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11 --keep-old 0",
    ),
)
def rotate(
    key_id: KeyId,
    keep_old: Annotated[
        str, typer.Option(help="How long the old one counts as well: 90m, 24h, 7d; 0 ends it.")
    ] = "24h",
    expires: Expires = None,
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a key that takes the place of another, and print it."""
    from cgk_tasks.cli.values import duration
    from cgk_tasks.gateway import rotate_key

    made = rotate_key(key_id, keep_old=duration(keep_old), expires=_time(expires), by=by or "", reason=reason)
    _show_new(made, as_json)


@commands.command("revoke", epilog=examples("cgk-tasks keys revoke 01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11"))
def revoke(key_id: KeyId, by: By = None, reason: Reason = "") -> None:
    """End a key at once."""
    from cgk_tasks.gateway import revoke_key

    typer.echo(f"{revoke_key(key_id, by=by or '', reason=reason).id}: revoked")


def _time(expires: str | None) -> timedelta | None:
    from cgk_tasks.cli.values import duration

    return None if expires is None else duration(expires)
