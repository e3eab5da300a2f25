"""`cgk-tasks dashboard`: the pages for the people who run it, and who may log in to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from cgk_tasks.cli import application, failures
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say
from cgk_tasks.extras import require_extra

if TYPE_CHECKING:
    from cgk_tasks.dashboard.access.deprecated_settings import UsersFile


class _Group(typer.core.TyperGroup):
    """Takes `users` for `user` as well."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, "user" if cmd_name == "users" else cmd_name)


commands = typer.Typer(
    cls=_Group,
    help="Serve the dashboard: pages on runs, tenants, dead letters and schedules, with Flower beside them.",
    epilog=examples(
        "cgk-tasks dashboard user add ada --role admin",
        "cgk-tasks dashboard",
        "cgk-tasks dashboard --port 9000",
        more="It is the same as `celery -A cgk_tasks flower`. Flower's other options are variables: "
        "FLOWER_URL_PREFIX=ops",
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

_ROLES = "viewer looks; operator acts on runs, tenants, queues and schedules; admin may do everything."
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user, in upper or lower case.")]


@commands.callback(invoke_without_command=True)
def dashboard(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 5555,
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
) -> None:
    """Serve the dashboard until Ctrl-C: pages on runs, tenants, dead letters and schedules, and Flower at /flower/.

    People log in as users that `cgk-tasks dashboard user add` made; the first one, admin, is made at the first start in
    a terminal, and its password shown once.
    """
    if context.invoked_subcommand is not None:
        return
    require_extra("dashboard", "The dashboard")
    import cgk_tasks.celery_app
    from cgk_tasks.dashboard.serving import serve

    application.load_jobs()
    with failures.serving_on(address, port):
        serve(cgk_tasks.celery_app.app, [f"--port={port}", f"--address={address}", "--logging=warning"])


def _users_file() -> UsersFile:
    from cgk_tasks.config import get_settings
    from cgk_tasks.dashboard.access.deprecated_settings import UsersFile

    return UsersFile(get_settings().dashboard_users_file)


def _new_password() -> str:
    """Asked for at a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\n")


def _move_from_file(name: str) -> None:
    """Of a user who is still in the deprecated file alone: into PostgreSQL, so that it can be changed there."""
    from cgk_tasks.dashboard.access.users import import_accounts

    file = _users_file()
    account = file.find(name)
    if account is not None:
        import_accounts([account])
        file.remove(name)


@users.command(
    "add",
    epilog=examples(
        "cgk-tasks dashboard user add ada --role operator",
        "pass show ops | cgk-tasks dashboard user add ada --role admin",
        "cgk-tasks dashboard user add '*@example.com' --role viewer --no-password",
    ),
)
def add(
    name: Name,
    role: Annotated[str, typer.Option(metavar="ROLE", help=_ROLES)] = "viewer",
    no_password: Annotated[
        bool,
        typer.Option(
            "--no-password",
            help="For those who log in through Flower (OAuth, --basic_auth); the name may have * in it.",
        ),
    ] = False,
) -> None:
    """Add a user, or give one a new role and password. The password is asked for, or read from a pipe.

    Of several patterns that match a name the longest counts; the name itself comes before all of them.
    """
    from cgk_tasks.dashboard.access.users import is_pattern, save_user
    from cgk_tasks.dashboard.roles import as_role

    wanted = as_role(role)
    save_user(name, wanted, None if no_password or is_pattern(name) else _new_password())
    _users_file().remove(name)
    typer.echo(f"{name}: {wanted}")


@users.command("list", epilog=examples("cgk-tasks dashboard user list --json"))
def list_users(as_json: AsJson = False) -> None:
    """List the users and patterns with their roles."""
    from cgk_tasks.dashboard.access.users import list_accounts

    rows = [
        {"name": account.name, "role": account.role, "password": account.password_hash is not None}
        for account in list_accounts()
    ]
    file = _users_file()
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            [row | {"password": "yes" if row["password"] else "no"} for row in rows], ("name", "role", "password")
        )
    elif not file.accounts():
        say("There is no user yet. Add one: cgk-tasks dashboard user add NAME --role admin")
    if file.accounts():
        names = ", ".join(file.accounts())
        say(f"Still in {file.path}: {names}. Import them: cgk-tasks dashboard user import {file.path}")


@users.command("remove", epilog=examples("cgk-tasks dashboard user remove ada"))
def remove(name: Name) -> None:
    """Remove a user or a pattern. Sessions of theirs end at once."""
    from cgk_tasks.dashboard.access.users import remove_user

    _move_from_file(name)
    remove_user(name)
    typer.echo(f"{name}: removed")


@users.command("set-role", epilog=examples("cgk-tasks dashboard user set-role ada admin"))
def set_role(name: Name, role: Annotated[str, typer.Argument(metavar="ROLE", help=_ROLES)]) -> None:
    """Give a user or a pattern another role. Sessions of theirs end at once."""
    from cgk_tasks.dashboard.access.users import set_role as change_role
    from cgk_tasks.dashboard.roles import as_role

    wanted = as_role(role)
    _move_from_file(name)
    change_role(name, wanted)
    typer.echo(f"{name}: {wanted}")


@users.command(
    "set-password",
    epilog=examples(
        "cgk-tasks dashboard user set-password ada", "pass show ops | cgk-tasks dashboard user set-password ada"
    ),
)
def set_password(name: Name) -> None:
    """Give a user another password, asked for or read from a pipe. Sessions of theirs end at once."""
    from cgk_tasks.dashboard.access.users import set_password as change_password

    _move_from_file(name)
    change_password(name, _new_password())
    typer.echo(f"{name}: new password")


@users.command("import", epilog=examples("cgk-tasks dashboard user import .cgk/dashboard-users.json"))
def import_users(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The old file of users.")],
) -> None:
    """Move the users of an old JSON file into PostgreSQL; their passwords stay valid.

    Users who are there already are left as they are. The file is renamed to FILE.imported, so that it counts no more.
    """
    from cgk_tasks.dashboard.access.deprecated_settings import UsersFile
    from cgk_tasks.dashboard.access.users import import_accounts

    accounts = UsersFile(file).accounts().values()
    added = import_accounts(accounts)
    kept = file.rename(file.with_name(f"{file.name}.imported"))
    typer.echo(f"{len(added)} of {len(accounts)} users imported; the file is now {kept}")
