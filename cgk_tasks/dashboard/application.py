"""The dashboard: an application of our own, of our pages alone. Flower is another one (`flower_application`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from tornado.web import Application, RequestHandler

from cgk_tasks.dashboard.live_pages import LivePages
from cgk_tasks.dashboard.pages import (
    actions,
    addresses,
    api_keys,
    audit_log,
    dead_letters,
    events,
    jobs,
    live,
    login,
    matches,
    oauth_login,
    overview,
    queues,
    run,
    runs,
    schedules,
    tenants,
    views,
    workers,
)

TEMPLATES: Final = Path(__file__).parent / "templates"
STATIC: Final = Path(__file__).parent / "static"
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
    ("/workers", workers.WorkersPage),
    (f"/workers/{_ID}/drain", workers.DrainWorker),
    (f"/workers/{_ID}/resume", workers.ResumeWorker),
    ("/dead-letters", dead_letters.DeadLettersPage),
    ("/dead-letters/group", dead_letters.GroupPage),
    ("/dead-letters/action", dead_letters.GroupActionPage),
    (f"/actions/{_NUMBER}", actions.ActionPage),
    (f"/actions/{_NUMBER}/abort", actions.AbortAction),
    (f"/actions/{_NUMBER}/resume", actions.ResumeAction),
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

MOVED: Final = (
    ("/runs/", "/runs"),
    (r"/workers-now(/.+)?", r"/workers\1"),
    (r"/dead-letters/actions/(.+)", r"/actions/\1"),
    (r"/(tasks|broker|(?:task|worker|api)/.+)", r"/flower/\1"),
)
"""Addresses of earlier releases, where Flower's pages stood among ours, and what they are now."""


class Dashboard(Application):
    """Our pages. `options`: Flower's, for its OAuth logins. `settings`: Tornado's, with `prefix`, the beginning of all
    addresses, and `authentication`.
    """

    def __init__(self, options: Any, *, prefix: str, **settings: Any) -> None:
        self.options = options
        self.live = LivePages()
        method = settings["authentication"].method
        pages: list[tuple[str, type[RequestHandler]]] = [
            *PAGES, ("/?", addresses.FirstPage), ("/healthcheck", addresses.Health), ("/logout", login.LogoutPage),
        ]  # fmt: skip
        if method in {"users", "open"}:
            pages.append(("/login/?", login.LoginPage))
        if method == "oauth":
            pages.append(("/login/?", oauth_login.oauth_login_handler()))
        start = re.escape(prefix)
        super().__init__(
            [
                *((f"{start}{path}", page) for path, page in pages),
                *((f"{start}{old}", addresses.Moved, {"old": f"{start}{old}", "new": f"{prefix}{new}"})
                  for old, new in MOVED),
            ],
            prefix=prefix,
            template_path=str(TEMPLATES),
            static_path=str(STATIC),
            static_url_prefix=f"{prefix}/static/",
            static_handler_class=addresses.StaticFile,
            default_handler_class=addresses.Unknown,
            **settings,
        )  # fmt: skip
