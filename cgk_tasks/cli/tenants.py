"""`cgk-tasks tenants`: whose jobs run here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say
from cgk_tasks.config import Isolation

if TYPE_CHECKING:
    from cgk_tasks.tenancy import Tenant

commands = typer.Typer(
    help="Register, suspend and resume tenants.",
    epilog=examples("cgk-tasks tenants add acme", "cgk-tasks tenants list", "cgk-tasks tenants suspend acme"),
    no_args_is_help=True,
    rich_markup_mode=None,
)

TenantId = Annotated[
    str, typer.Argument(metavar="ID", help="The tenant: lower-case letters, digits, _ and -.")
]
_COLUMNS = ("id", "status", "isolation", "schema_name", "role_name")


def _row(tenant: Tenant) -> dict[str, Any]:
    return {name: getattr(tenant, name) for name in _COLUMNS}


@commands.command(
    "add", epilog=examples("cgk-tasks tenants add acme", "cgk-tasks tenants add acme --schema shop_acme")
)
def add(
    tenant_id: TenantId,
    schema: Annotated[
        str | None, typer.Option(help="Database schema; the default is CGK_TENANT_SCHEMA.")
    ] = None,
    isolation: Annotated[
        Isolation | None,
        typer.Option(metavar="HOW", help="search_path, role or rls; the default is CGK_TENANT_ISOLATION."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a tenant, with its schema and role, and run CGK_TENANT_SETUP there. Safe to repeat."""
    from cgk_tasks.tenancy import add_tenant

    tenant = add_tenant(tenant_id, schema=schema, isolation=isolation)
    if as_json:
        print_json(_row(tenant))
    else:
        typer.echo(f"{tenant.id}: {tenant.status}, isolation {tenant.isolation}, schema {tenant.schema_name}")


@commands.command("list", epilog=examples("cgk-tasks tenants list", "cgk-tasks tenants list --json"))
def list_tenants(as_json: AsJson = False) -> None:
    """List every tenant, suspended ones too."""
    from cgk_tasks.tenancy.registry import all_tenants

    rows = [_row(tenant) for tenant in all_tenants()]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, _COLUMNS)
    else:
        say("No tenant is registered. Add one: cgk-tasks tenants add acme")


@commands.command("suspend", epilog=examples("cgk-tasks tenants suspend acme --by billing"))
def suspend(
    tenant_id: TenantId,
    by: Annotated[str, typer.Option(help="Who or what suspends it, for the record.")] = "cli",
) -> None:
    """Hold a tenant's runs: nothing new starts; what is sent waits until it is resumed."""
    from cgk_tasks.tenancy import suspend_tenant

    tenant = suspend_tenant(tenant_id, by=by)
    typer.echo(f"{tenant.id}: {tenant.status}")


@commands.command("resume", epilog=examples("cgk-tasks tenants resume acme"))
def resume(tenant_id: TenantId) -> None:
    """Let a suspended tenant's runs go on."""
    from cgk_tasks.tenancy import resume_tenant

    tenant = resume_tenant(tenant_id)
    typer.echo(f"{tenant.id}: {tenant.status}")
