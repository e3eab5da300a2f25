"""Flower's own handlers, authorized: what changes something in one worker or all of them is for admins, and audited."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import Any, Final

from flower.api import tasks
from flower.views import monitor
from flower.views.tasks import TasksDataTable
from tornado.web import HTTPError, RedirectHandler, RequestHandler, StaticFileHandler

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.access.authorization import SAFE_METHODS, AuthorizedHandler
from cgk_tasks.dashboard.access.flower_actions import flower_action
from cgk_tasks.dashboard.roles import Role

# Flower's pages write styles into elements, its style sheet has images in it, and one page a script.
POLICY: Final = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; object-src 'none'"
)

PUBLIC: Final = (StaticFileHandler, monitor.Healthcheck, RedirectHandler)
"""For everybody: files of the pages, whether the process lives, and where a page is now."""


class _FlowerHandler(AuthorizedHandler):
    role_to_change = "admin"

    _entry: audit.Entry | None = None

    def needed_role(self) -> Role:
        if isinstance(self, TasksDataTable):
            return "viewer"  # asks with POST, and changes nothing
        if isinstance(self, tasks.TaskResult):
            # Results and error texts come as they are, personal data included.
            if not get_settings().dashboard_show_sensitive:
                raise HTTPError(403, "Results are on the run's page. For this one, set CGK_DASHBOARD_SHOW_SENSITIVE.")
            return "admin"
        return super().needed_role()

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.nonce = secrets.token_urlsafe(12)
        self.set_header("Content-Security-Policy", POLICY.format(nonce=self.nonce))

    def get_template_namespace(self) -> dict[str, Any]:
        return super().get_template_namespace() | {"nonce": self.nonce}

    def render(self, template_name: str, **values: Any) -> Any:
        """Without Flower's buttons for those who may not use them."""
        if "read_only" in values and not (self.current_user and self.user.may("admin")):
            values["read_only"] = True
        return super().render(template_name, **values)

    async def prepare(self) -> None:
        await super().prepare()
        if self.current_user is None or self.request.method in SAFE_METHODS or self.needed_role() == "viewer":
            return
        # On record before it happens, or it does not happen.
        action, subject, details = flower_action(self)
        begin = partial(audit.begin, self.user, action, subject=subject, details=details)
        self._entry = await asyncio.get_running_loop().run_in_executor(None, begin)

    def on_finish(self) -> None:
        if self._entry is not None:
            status = self.get_status()
            outcome: audit.Outcome = "done" if status < 400 else "refused"
            asyncio.get_running_loop().run_in_executor(None, audit.end, self._entry, outcome, f"HTTP {status}")
        super().on_finish()


_authorized: dict[type[RequestHandler], type[RequestHandler]] = {}


def authorized(handler: type[RequestHandler]) -> type[RequestHandler]:
    """The handler's class with authorization mixed in; always the same class for the same handler."""
    if issubclass(handler, PUBLIC):
        return handler
    if handler not in _authorized:
        _authorized[handler] = type(handler.__name__, (_FlowerHandler, handler), {"__module__": handler.__module__})
    return _authorized[handler]
