"""Django's admin on loopback, behind a login."""

from __future__ import annotations

import contextlib
import secrets

LOGIN = "admin"


def ensure_login(*, reset: bool = False) -> str | None:
    """Make the user `admin` if nobody may log in yet, or give it a new password. Returns the password, if it is new.

    Needs a set-up and migrated Django.
    """
    from django.contrib.auth import get_user_model

    users = get_user_model().objects
    if users.filter(is_superuser=True, is_active=True).exists() and not reset:
        return None
    password = secrets.token_urlsafe(15)
    user = users.filter(username=LOGIN).first()
    if user is None:
        users.create_superuser(LOGIN, password=password)
    else:
        user.set_password(password)
        user.is_active = user.is_staff = user.is_superuser = True
        user.save()
    return password


def serve(port: int) -> None:
    """Serve until Ctrl-C, on 127.0.0.1 and nowhere else."""
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.servers.basehttp import (
        ThreadedWSGIServer,
        WSGIRequestHandler,
        get_internal_wsgi_application,
    )

    server = ThreadedWSGIServer(("127.0.0.1", port), WSGIRequestHandler)
    server.set_app(StaticFilesHandler(get_internal_wsgi_application()))
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
