"""The jobs of `sms.send`, `slack.notify` and `push.notification`, through the apprise URL of the tenant or the
platform.
"""

from __future__ import annotations

import re
from typing import Any, Final

from cgk_tasks.builtin.channels import fill_in, notify
from cgk_tasks.builtin.job import builtin_job
from cgk_tasks.builtin.tenant_settings import required, settings_of
from cgk_tasks.catalog.notifications import PushNotification, SlackNotify, SmsSend
from cgk_tasks.errors import PermanentError
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.retry import RetryConfig

_PHONE: Final = re.compile(r"\+?[0-9][0-9 ()./-]{3,24}")


def send_sms(ctx: JobContext[SmsSend]) -> None:
    """Send the text. `template_id` is for services with templates of their own, which apprise does not fill in."""
    if not _PHONE.fullmatch(ctx.payload.to):
        raise PermanentError("The recipient (to) is not a phone number like +4915112345678.", "INVALID_INPUT")
    number = re.sub(r"[^0-9+]", "", ctx.payload.to)
    notify(_url(ctx, "sms_url", "{to}", to=number), ctx.payload.message)


def notify_slack(ctx: JobContext[SlackNotify]) -> dict[str, Any]:
    """Post the message. Blocks are left out, which apprise cannot send; the message is their text."""
    notify(_url(ctx, "slack_url", channel=ctx.payload.channel), ctx.payload.message)
    return {"blocks": "left out"} if ctx.payload.blocks else {}


def push(ctx: JobContext[PushNotification]) -> None:
    """Send title and body to the user's devices. `data` is for apps; apprise has no place for it."""
    notify(_url(ctx, "push_url", "{user_id}", user_id=ctx.payload.user_id), ctx.payload.body, title=ctx.payload.title)


def _url(ctx: JobContext[Any], name: str, place: str | None = None, **values: str) -> str:
    """The apprise URL of the tenant or the platform, with the recipient in it."""
    url = required(settings_of(ctx.tenant_id, name), name, ctx.tenant_id)
    if place is not None and place not in url:
        raise PermanentError(
            f"The {name} of tenant {ctx.tenant_id!r} has no place for the recipient.",
            "NOT_CONFIGURED",
            hint=f"Put {place} into it.",
        )
    return fill_in(url, **values)


_RETRY: Final = RetryConfig(max_attempts=5, factor=3, initial_delay=2, max_delay=300)

JOBS: Final = (
    builtin_job("sms.send", send_sms, retry=_RETRY, timeout=60),
    builtin_job("slack.notify", notify_slack, retry=_RETRY, timeout=60),
    builtin_job("push.notification", push, retry=_RETRY, timeout=60),
)
