"""The job of `system.alert`: to the channels of its severity."""

from __future__ import annotations

from typing import Any, Final

from cgk_tasks.builtin.channels import Kind, notify
from cgk_tasks.builtin.job import builtin_job
from cgk_tasks.catalog.system import SystemAlert
from cgk_tasks.config import get_settings
from cgk_tasks.errors import JobError, PermanentError, TransientError
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.retry import RetryConfig

_KINDS: Final[dict[str, Kind]] = {"critical": "failure", "error": "failure", "warning": "warning", "info": "info"}


def alert(ctx: JobContext[SystemAlert]) -> dict[str, Any]:
    """Send to every channel of CGK_ALERT_URLS for the severity, or to `default`. Metadata stays in the record.

    What a channel has taken is kept as the run's cursor, so that another attempt goes to the others only.
    """
    severity = ctx.payload.severity
    channels = get_settings().alert_urls
    urls = channels.get(severity, channels.get("default", ()))
    body = f"{ctx.payload.message}\n\ntenant {ctx.tenant_id}, run {ctx.run_id}"
    taken: list[int] = list(ctx.cursor or [])
    failures: list[JobError] = []
    for position, url in enumerate(urls):
        if position in taken:
            continue
        try:
            notify(url.get_secret_value(), body, title=f"[{severity}] {ctx.payload.title}", kind=_KINDS[severity])
        except (PermanentError, TransientError) as exc:  # one broken channel does not keep the alert from the others
            failures.append(exc)
        else:
            taken.append(position)
            ctx.checkpoint(taken)
    if failures:
        texts = "; ".join(str(failure) for failure in failures)
        # Also where a channel refuses for good: it may be mended while the others are tried again.
        raise TransientError(f"{len(failures)} of {len(urls)} channels did not take the alert: {texts}")
    return {"channels": len(urls)}


JOBS: Final = (
    builtin_job("system.alert", alert, retry=RetryConfig(max_attempts=8, initial_delay=0.5, max_delay=60), timeout=120),
)
