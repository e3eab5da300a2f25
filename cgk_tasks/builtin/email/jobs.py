"""The job of `email.send`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from cgk_tasks.builtin.email import smtp
from cgk_tasks.builtin.email.message import compose, one_address
from cgk_tasks.builtin.email.templates import render
from cgk_tasks.builtin.job import builtin_job
from cgk_tasks.builtin.tenant_settings import required, settings_of
from cgk_tasks.catalog.notifications import EmailSend
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.retry import RetryConfig

_IMPORTANCE: Final = {"high": "high", "low": "low"}


def send(ctx: JobContext[EmailSend]) -> dict[str, str]:
    """Fill the template in and hand the email to the tenant's SMTP server.

    The Message-ID is made from the run's id: if the worker dies after the server took the email, the second one has the
    same id, and mailboxes that know it drop it.
    """
    email = ctx.payload
    settings = settings_of(ctx.tenant_id, "smtp_url", "email_from")
    server = smtp.parse_url(required(settings, "smtp_url", ctx.tenant_id))
    sender = one_address(required(settings, "email_from", ctx.tenant_id), "The sender (email_from)")
    recipient = one_address(email.to, "The recipient (to)")
    message_id = f"<{ctx.run_id}@{sender.domain}>"
    content = compose(
        render(ctx.tenant_id, email.template_id, email.data),
        sender,
        recipient,
        message_id=message_id,
        at=ctx.queued_at or datetime.now(UTC),
        importance=_IMPORTANCE.get(email.priority or ""),
    )
    smtp.send(server, content, sender=sender.addr_spec, recipient=recipient.addr_spec)
    return {"messageId": message_id}


# Greylisting wants minutes.
_RETRY: Final = RetryConfig(max_attempts=6, factor=4, initial_delay=5, max_delay=1800)

JOBS: Final = (builtin_job("email.send", send, retry=_RETRY, timeout=120),)
