"""`cgk-tasks admin`: django-celery-beat's pages, for people who would rather click."""

from __future__ import annotations

from typing import Annotated

import typer

from cgk_tasks.cli import application, failures
from cgk_tasks.cli.output import examples, say
from cgk_tasks.extras import require_extra

EXAMPLES = examples("cgk-tasks admin", "cgk-tasks admin --port 9000", "cgk-tasks admin --reset-password")


def admin(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8042,
    reset_password: Annotated[
        bool, typer.Option("--reset-password", help="Make a new password for the user admin.")
    ] = False,
) -> None:
    """Serve the schedules' admin on this machine only. The password is made at the first start and shown once."""
    require_extra("beat", "The admin")
    import cgk_tasks.celery_app  # noqa: F401 - the admin offers its tasks
    from cgk_tasks.schedules.admin_server import ensure_login, serve
    from cgk_tasks.schedules.django_setup import migrate_django

    application.load_jobs()
    migrate_django()
    password = ensure_login(reset=reset_password)
    if password is not None:
        say(f"user: admin\npassword: {password}\nIt is not shown again. A new one: cgk-tasks admin --reset-password")
    say(f"http://127.0.0.1:{port}/admin/ until Ctrl-C")
    with failures.serving_on("127.0.0.1", port):
        serve(port)
