"""Flower with our pages in it. Every handler is authorized first."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from flower.app import Flower
from flower.views.auth import LoginHandler
from tornado.httputil import HTTPConnection, HTTPServerRequest
from tornado.web import RedirectHandler, RequestHandler, StaticFileHandler

from cgk_tasks.broker.without import has_broker
from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.access.authentication import Authentication
from cgk_tasks.dashboard.access.authorization import authorized
from cgk_tasks.dashboard.access.client_address import TrustedProxies
from cgk_tasks.dashboard.access.oauth_login import oauth_login_handler
from cgk_tasks.dashboard.display import STATIC, STATIC_PATH
from cgk_tasks.dashboard.http_server import LimitedBody, listen
from cgk_tasks.dashboard.live_pages import LivePages
from cgk_tasks.dashboard.pages import (
    actions,
    api_keys,
    audit_log,
    dead_letters,
    events,
    jobs,
    live,
    login,
    matches,
    overview,
    queues,
    run,
    runs,
    schedules,
    tenants,
    views,
    workers,
)
from cgk_tasks.dashboard.template_loader import TemplateLoader

_ID: Final = "([0-9a-fA-F-]{32,36})"
_SEGMENT: Final = "([^/]+)"
_NAME: Final = "([A-Za-z0-9][A-Za-z0-9._-]*)"
_NUMBER: Final = "([0-9]{1,18})"

PAGES: Final[tuple[tuple[str, type[RequestHandler]], ...]] = (
    ("/overview", overview.OverviewPage),
    ("/runs", runs.RunsPage),
    (r"/runs\.csv", runs.RunsFile),
    ("/runs/selected", runs.SelectedRuns),
    ("/runs/matching", matches.MatchActionPage),
    ("/runs/views", views.SaveView),
    (f"/runs/views/{_NUMBER}/delete", views.DeleteView),
    (f"/runs/{_ID}", run.RunPage),
    (f"/runs/{_ID}/retry", run.RetryRun),
    (f"/runs/{_ID}/cancel", run.CancelRun),
    (f"/runs/{_ID}/replay", run.ReplayRun),
    (f"/runs/{_ID}/signal", run.SignalRun),
    (f"/runs/{_ID}/replay-from", run.ReplayFromStep),
    ("/events", events.EventsPage),
    (f"/events/{_SEGMENT}", events.EventPage),
    (f"/events/{_SEGMENT}/send", events.SendEvent),
    ("/jobs", jobs.JobsPage),
    (f"/jobs/{_SEGMENT}", jobs.JobPage),
    ("/tenants", tenants.TenantsPage),
    (f"/tenants/{_NAME}", tenants.TenantPage),
    (f"/tenants/{_NAME}/suspend", tenants.SuspendTenant),
    (f"/tenants/{_NAME}/resume", tenants.ResumeTenant),
    (f"/tenants/{_NAME}/end-quarantine", tenants.EndQuarantine),
    (f"/tenants/{_NAME}/keys", api_keys.MakeKey),
    (f"/tenants/{_NAME}/keys/{_ID}/rotate", api_keys.RotateKey),
    (f"/tenants/{_NAME}/keys/{_ID}/revoke", api_keys.RevokeKey),
    ("/queues", queues.QueuesPage),
    ("/queues/lanes", queues.QueuePage),
    ("/queues/pause", queues.PauseQueue),
    ("/queues/resume", queues.ResumeQueue),
    ("/workers-now", workers.WorkersPage),
    (f"/workers-now/{_ID}/drain", workers.DrainWorker),
    (f"/workers-now/{_ID}/resume", workers.ResumeWorker),
    ("/dead-letters", dead_letters.DeadLettersPage),
    ("/dead-letters/group", dead_letters.GroupPage),
    ("/dead-letters/action", dead_letters.GroupActionPage),
    (f"/actions/{_NUMBER}", actions.ActionPage),
    (f"/actions/{_NUMBER}/abort", actions.AbortAction),
    (f"/actions/{_NUMBER}/resume", actions.ResumeAction),
    # As earlier releases called them: forms of pages that are open yet lead there.
    (f"/dead-letters/actions/{_NUMBER}/abort", actions.AbortAction),
    (f"/dead-letters/actions/{_NUMBER}/resume", actions.ResumeAction),
    ("/schedules", schedules.SchedulesPage),
    ("/schedules/of-tenants", schedules.TenantSchedulesPage),
    ("/schedules/coming-day", schedules.ComingDayPage),
    (f"/schedules/of-tenants/{_ID}/pause", schedules.PauseTenantSchedule),
    (f"/schedules/of-tenants/{_ID}/resume", schedules.ResumeTenantSchedule),
    (f"/schedules/{_NAME}", schedules.SchedulePage),
    (f"/schedules/{_NAME}/pause", schedules.PauseSchedule),
    (f"/schedules/{_NAME}/resume", schedules.ResumeSchedule),
    (f"/schedules/{_NAME}/run-now", schedules.RunScheduleNow),
    (f"/schedules/{_NAME}/trigger", schedules.TriggerSchedule),
    ("/audit", audit_log.AuditPage),
    ("/live", live.LiveStream),
)


class Dashboard(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower, with the pages on the record of runs. Everything else of it is as it is."""

    def __init__(self, authentication: Authentication, proxies: TrustedProxies, **options: Any) -> None:
        self.authentication = authentication
        self.live = LivePages()
        self._proxies = proxies
        super().__init__(**options, template_loader=TemplateLoader(), xsrf_cookie_kwargs={"samesite": "Lax"})
        prefix = f"/{self.options.url_prefix.strip('/')}" if self.options.url_prefix else ""
        pages: list[Any] = [(f"{prefix}{path}", page) for path, page in PAGES]
        pages.append((f"{prefix}{STATIC_PATH}/(.*)", StaticFileHandler, {"path": str(STATIC)}))
        pages.append((f"{prefix}/runs/", RedirectHandler, {"url": f"{prefix}/runs"}))
        moved = {"url": f"{prefix}/actions/{{0}}"}
        pages.append((f"{prefix}/dead-letters/actions/{_NUMBER}", RedirectHandler, moved))
        pages.append((f"{prefix}/?", RedirectHandler, {"url": f"{prefix}/overview", "permanent": False}))
        if authentication.method in {"users", "open"}:
            pages.append((f"{prefix}/login/?", login.LoginPage))
        pages.append((f"{prefix}/logout", login.LogoutPage))
        self.add_handlers(".*", pages)

    def start_http_server(self) -> int | None:
        """Listen. Returns the port. Raises ConfigurationError."""
        return listen(self, self.options, self.ssl_options)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> LimitedBody:
        """Every request, from its first byte."""
        return LimitedBody(super().start_request(server_conn, request_conn), request_conn)

    def find_handler(self, request: HTTPServerRequest, **options: Any) -> Any:
        """Every request, once its headers are there."""
        self._proxies.apply(request)
        return super().find_handler(request, **options)

    @cached_property
    def broker_uri_with_password(self) -> str:
        """For Flower's page of the broker, which does not know our transport by its name."""
        settings = get_settings()
        is_named = settings.broker_url is not None and has_broker()
        return settings.broker if is_named else str(super().broker_uri_with_password)

    def get_handler_delegate(self, request: Any, target_class: type[RequestHandler], *args: Any, **options: Any) -> Any:
        """Every handler, Flower's too, is authorized first; Flower's OAuth logins begin sessions of ours."""
        if issubclass(target_class, LoginHandler) and self.authentication.method == "oauth":
            target_class = oauth_login_handler()
        else:
            target_class = authorized(target_class)
        return super().get_handler_delegate(request, target_class, *args, **options)
