"""`cgk-tasks secrets`: the keys that stored secrets are encrypted with."""

from __future__ import annotations

from dataclasses import asdict

import typer

from cgk_tasks.cli import exits, failures
from cgk_tasks.cli.output import AsJson, DryRun, examples, print_json, say

commands = typer.Typer(
    help="Make keys for stored secrets, and encrypt everything with the newest.",
    epilog=examples("cgk-tasks secrets key", "cgk-tasks secrets rotate --dry-run", "cgk-tasks secrets rotate"),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("key", epilog=examples("cgk-tasks secrets key", "CGK_ENCRYPTION_KEYS=$(cgk-tasks secrets key)"))
def key() -> None:
    """Print a new key for CGK_ENCRYPTION_KEYS. It is stored nowhere."""
    from cgk_tasks.config.encryption_keys import new_key

    typer.echo(new_key())
    say("Put it before the keys that CGK_ENCRYPTION_KEYS has, wherever workers run, and keep a copy in a safe place.")


@commands.command("rotate", epilog=examples("cgk-tasks secrets rotate --dry-run", "cgk-tasks secrets rotate"))
def rotate(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Encrypt everything with the newest key: what has an older one, and what was stored before there were keys.

    Safe to repeat and to interrupt, and while jobs run. Exits with 1 if a secret cannot be read; it stays as it is.
    """
    from cgk_tasks.builtin.secrets.rotation import rotate_secrets

    done = rotate_secrets(dry_run=dry_run)
    if as_json:
        print_json({**asdict(done), "unreadable": [str(error) for error in done.unreadable]})
    else:
        would = "would be " if dry_run else ""
        typer.echo(
            f"{done.rotated} with an older key, and {done.lifted} that were plain: {would}encrypted with the newest key"
        )
        for error in done.unreadable:
            failures.report(error)
    if done.unreadable:
        raise typer.Exit(exits.FAILED)
