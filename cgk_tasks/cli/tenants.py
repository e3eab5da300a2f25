"""`cgk-tasks tenants`: whose jobs run here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cgk_tasks.cli import quarantine, tenant_limits, tenant_usage, tenants_migrate, values
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say
from cgk_tasks.config import Isolation

if TYPE_CHECKING:
    from cgk_tasks.tenancy import Tenant

commands = typer.Typer(
    help="Register, suspend, resume and remove tenants, and bring their tables up to date.",
    epilog=examples("cgk-tasks tenants add acme", "cgk-tasks tenants list", "cgk-tasks tenants suspend acme"),
    no_args_is_help=True,
    rich_markup_mode=None,
)

TenantId = Annotated[str, typer.Argument(metavar="ID", help="The tenant: lower-case letters, digits, _ and -.")]
_COLUMNS = ("id", "state", "isolation", "schema_name", "role_name")


def _row(tenant: Tenant) -> dict[str, Any]:
    # `status` is the first name of `state`, for programs that read it in the JSON.
    return {name: getattr(tenant, name) for name in (*_COLUMNS, "status")}


@commands.command("add", epilog=examples("cgk-tasks tenants add acme", "cgk-tasks tenants add acme --schema shop_acme"))
def add(
    tenant_id: TenantId,
    schema: Annotated[str | None, typer.Option(help="Database schema; the default is CGK_TENANT_SCHEMA.")] = None,
    isolation: Annotated[
        Isolation | None,
        typer.Option(
            metavar="HOW",
            help="search_path, role or rls; the default is CGK_TENANT_ISOLATION.",
            parser=values.one_of(get_args(Isolation)),
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a tenant, with its schema and role, and run CGK_TENANT_SETUP there. Safe to repeat."""
    from cgk_tasks.tenancy import add_tenant

    tenant = add_tenant(tenant_id, schema=schema, isolation=isolation)
    if as_json:
        print_json(_row(tenant))
    else:
        typer.echo(f"{tenant.id}: {tenant.state}, isolation {tenant.isolation}, schema {tenant.schema_name}")


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
    by: Annotated[str | None, typer.Option(help="Who or what suspends it; default: CGK_ACTOR, or you.")] = None,
) -> None:
    """Hold a tenant's runs: nothing new starts; what is sent waits until it is resumed."""
    from cgk_tasks.tenancy import suspend_tenant
    from cgk_tasks.tenancy.audit import actor

    tenant = suspend_tenant(tenant_id, by=by or actor())
    typer.echo(f"{tenant.id}: {tenant.state}")


@commands.command("resume", epilog=examples("cgk-tasks tenants resume acme"))
def resume(tenant_id: TenantId) -> None:
    """Let a suspended tenant's runs go on."""
    from cgk_tasks.tenancy import resume_tenant

    tenant = resume_tenant(tenant_id)
    typer.echo(f"{tenant.id}: {tenant.state}")


@commands.command(
    "remove", epilog=examples("cgk-tasks tenants remove acme", "cgk-tasks tenants remove acme --drop-schema --yes")
)
def remove(
    tenant_id: TenantId,
    drop_schema: Annotated[
        bool, typer.Option("--drop-schema", help="Drop its schema, with all tables in there, and its role.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a suspended tenant without open runs, and all that is on record of it. This cannot be undone."""
    from cgk_tasks.tenancy import remove_tenant

    if not yes:
        what = "all that is on record of it" + (", and its schema with all tables" if drop_schema else "")
        typer.confirm(f"Delete tenant {tenant_id}, {what}?", abort=True, err=True)
    removed = remove_tenant(tenant_id, drop_schema=drop_schema)
    typer.echo(f"{removed.tenant}: removed, with {removed.rows:,} rows on record")
    if removed.schema_left is not None:
        say(f"Its schema {removed.schema_left} is as it was. The application's tables are in there.")


tenant_limits.add_to(commands)
commands.command("usage", epilog=tenant_usage.EXAMPLES)(tenant_usage.usage)
commands.command("quarantined", epilog=quarantine.EXAMPLES)(quarantine.quarantined)
commands.command("migrate", epilog=tenants_migrate.EXAMPLES)(tenants_migrate.migrate)


SettingName = Annotated[
    str, typer.Argument(metavar="NAME", help="email_from, smtp_url, sms_url, slack_url or push_url.")
]


@commands.command(
    "set",
    epilog=examples(
        "cgk-tasks tenants set acme email_from 'Acme <hello@acme.example>'",
        "cgk-tasks tenants set acme smtp_url - < smtp_url.txt", "cgk-tasks tenants set acme slack_url --remove",
    ),
)  # fmt: skip
def set_setting(
    tenant_id: TenantId,
    name: SettingName,
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="[VALUE]", help="The value; - reads stdin. Left out, it is asked for unseen.", show_default=False
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Let the platform's value hold again.")] = False,
) -> None:
    """Give a tenant its own sender or credentials for the built-in jobs, in place of the platform's."""
    from cgk_tasks.builtin.tenant_settings import remove_tenant_setting, set_tenant_setting

    if remove:
        had = remove_tenant_setting(tenant_id, name)
        typer.echo(f"{tenant_id}: {name} {'removed' if had else 'was not set'}")
        return
    if value is None:
        value = typer.prompt(name, hide_input=True, err=True)
    elif value == "-":
        value = values.stdin_text()
    set_tenant_setting(tenant_id, name, value)
    typer.echo(f"{tenant_id}: {name} set")


@commands.command("settings", epilog=examples("cgk-tasks tenants settings acme"))
def settings(tenant_id: TenantId, as_json: AsJson = False) -> None:
    """List which settings a tenant has of its own, without their values."""
    from cgk_tasks.builtin.tenant_settings import list_tenant_settings

    rows = [{"name": name, "changed_at": at} for name, at in list_tenant_settings(tenant_id).items()]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, ("name", "changed_at"))
    else:
        say(f"{tenant_id} has none: the platform's hold. See: cgk-tasks tenants set --help")
