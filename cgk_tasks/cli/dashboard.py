"""`cgk-tasks dashboard`: the pages for the people who run it, and who may log in to them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cgk_tasks.cli import application, failures
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say

if TYPE_CHECKING:
    from cgk_tasks.monitoring.dashboard.access.users import UsersFile

commands = typer.Typer(
    help="Serve the dashboard: Flower, with pages on runs, tenants, dead letters and schedules.",
    epilog=examples(
        "cgk-tasks dashboard user add ada --role admin",
        "cgk-tasks dashboard",
        "cgk-tasks dashboard --port 9000",
        more="It is the same as `celery -A cgk_tasks flower`. Flower's other options are variables: FLOWER_URL_PREFIX=ops",
    ),
    rich_markup_mode=None,
)
users = typer.Typer(
    help="Who may log in to the dashboard.",
    epilog=examples("cgk-tasks dashboard user add ada --role operator", "cgk-tasks dashboard user list"),
    no_args_is_help=True,
    rich_markup_mode=None,
)
commands.add_typer(users, name="user")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user.")]


@commands.callback(invoke_without_command=True)
def dashboard(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 5555,
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
) -> None:
    """Serve the dashboard until Ctrl-C: Flower, with pages on runs, tenants, dead letters and schedules.

    People log in as users of CGK_DASHBOARD_USERS_FILE; the first one, admin, is made at the first start in a terminal,
    and its password shown once.
    """
    if context.invoked_subcommand is not None:
        return
    import cgk_tasks.celery_app
    from cgk_tasks.monitoring.dashboard.serving import serve

    application.load_jobs()
    with failures.serving_on(address, port):
        serve(cgk_tasks.celery_app.app, [f"--port={port}", f"--address={address}", "--logging=warning"])


def _file() -> UsersFile:
    from cgk_tasks.config import get_settings
    from cgk_tasks.monitoring.dashboard.access.users import UsersFile

    return UsersFile(get_settings().dashboard_users_file)


@users.command(
    "add",
    epilog=examples(
        "cgk-tasks dashboard user add ada --role operator",
        "pass show ops | cgk-tasks dashboard user add ada --role admin",
    ),
)
def add(
    name: Name,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE", help="viewer looks; operator acts on runs, tenants and schedules; admin may do everything."
        ),
    ] = "viewer",
) -> None:
    """Add a user, or give one a new role and password. The password is asked for, or read from a pipe."""
    from cgk_tasks.monitoring.dashboard.access.roles import as_role

    wanted = as_role(role)
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    file = _file()
    file.add(name, wanted, password)
    typer.echo(f"{name}: {wanted}, in {file.path}")


@users.command("list", epilog=examples("cgk-tasks dashboard user list --json"))
def list_users(as_json: AsJson = False) -> None:
    """List the users and their roles."""
    rows = [{"name": user.name, "role": user.role} for user in _file().users().values()]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, ("name", "role"))
    else:
        say("There is no user yet. Add one: cgk-tasks dashboard user add NAME --role admin")


@users.command("remove", epilog=examples("cgk-tasks dashboard user remove ada"))
def remove(name: Name) -> None:
    """Remove a user. Sessions of theirs end at once."""
    _file().remove(name)
    typer.echo(f"{name}: removed")
