"""The job of `email.send`."""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from typing import Final

from cgk_tasks.builtin.email import smtp
from cgk_tasks.builtin.email.templates import Rendered, render
from cgk_tasks.builtin.job import builtin_job
from cgk_tasks.builtin.tenant_settings import required, settings_of
from cgk_tasks.catalog.notifications import EmailSend
from cgk_tasks.errors import PermanentError
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
    sender = _one_address(required(settings, "email_from", ctx.tenant_id), "The sender (email_from)")
    recipient = _one_address(email.to, "The recipient (to)")
    rendered = render(ctx.tenant_id, email.template_id, email.data)
    message_id = f"<{ctx.run_id}@{sender.domain}>"
    message = _compose(rendered, sender, recipient, message_id, ctx.queued_at)
    if email.priority in _IMPORTANCE:
        message["Importance"] = _IMPORTANCE[email.priority]
    smtp.send(server, message, sender=sender.addr_spec, recipient=recipient.addr_spec)
    return {"messageId": message_id}


def _compose(
    rendered: Rendered, sender: Address, recipient: Address, message_id: str, at: datetime | None
) -> EmailMessage:
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = rendered.subject
    message["Date"] = at or datetime.now(UTC)
    message["Message-ID"] = message_id
    if rendered.text is not None:
        message.set_content(rendered.text)
    if rendered.html is not None:
        if rendered.text is None:
            message.set_content(rendered.html, subtype="html")
        else:
            message.add_alternative(rendered.html, subtype="html")
    return message


def _one_address(text: str, what: str) -> Address:
    """The one address in a text, with or without a name. Raises PermanentError that does not quote it."""
    header = EmailMessage(policy=SMTP_POLICY)
    try:
        header["To"] = text
        addresses: tuple[Address, ...] = header["To"].addresses
        faultless = not header["To"].defects
    except (ValueError, IndexError, AttributeError):  # line breaks, and what the parser cannot read
        addresses, faultless = (), False
    if not faultless or len(addresses) != 1 or not addresses[0].username or not addresses[0].domain:
        raise PermanentError(f"{what} is not one email address.", "INVALID_INPUT")
    return addresses[0]


# Greylisting wants minutes.
_RETRY: Final = RetryConfig(max_attempts=6, factor=4, initial_delay=5, max_delay=1800)

JOBS: Final = (builtin_job("email.send", send, retry=_RETRY, timeout=120),)
