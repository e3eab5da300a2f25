"""Handing an email to an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from cgk_tasks.errors import CgkTasksError, ConfigurationError, PermanentError, TransientError

Security = Literal["none", "starttls", "tls"]

TIMEOUT_SECONDS: Final = 30.0
"""Of each exchange with the server."""

_SECURITY: Final[dict[str, Security]] = {"smtp": "none", "smtp+starttls": "starttls", "smtps": "tls"}
_PORTS: Final[dict[Security, int]] = {"none": 25, "starttls": 587, "tls": 465}
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Server:
    """An SMTP server, and who we are there."""

    host: str
    port: int
    security: Security
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_url(url: str) -> Server:
    """The server that a URL names. Raises ConfigurationError, which never quotes the URL."""
    try:
        parts = urlsplit(url)
        security, port = _SECURITY[parts.scheme], parts.port
    except (KeyError, ValueError):
        raise ConfigurationError(
            "An smtp_url must be like smtp+starttls://user:password@host:587, smtps://user:password@host or smtp://host."
        ) from None
    if not parts.hostname:
        raise ConfigurationError("An smtp_url names no host.", hint="Write it like smtps://user:password@host.")
    user, password = _login(parts)
    if user is not None and security == "none" and parts.hostname not in _LOOPBACK:
        raise ConfigurationError(
            f"The smtp_url of {parts.hostname} would send its password in the clear.",
            hint="Begin it with smtp+starttls:// or smtps://.",
        )
    return Server(parts.hostname, port or _PORTS[security], security, user, password)


def _login(parts: SplitResult) -> tuple[str | None, str | None]:
    if not parts.username:
        return None, None
    return unquote(parts.username), unquote(parts.password or "")


def send(server: Server, message: EmailMessage, *, sender: str, recipient: str) -> None:
    """Hand a message over: when this returns, the server has taken it.

    Raises PermanentError for what the server refuses for good, TransientError or OSError for what may pass. None of
    them quotes the message or its recipient.
    """
    with _session(server) as session:
        try:
            session.send_message(message, from_addr=sender, to_addrs=[recipient])
        except smtplib.SMTPRecipientsRefused as exc:
            code, _text = exc.recipients[recipient]
            raise _refusal(code, "the recipient") from None
        except smtplib.SMTPSenderRefused as exc:
            raise _refusal(exc.smtp_code, "the sender") from None
        except smtplib.SMTPResponseException as exc:
            raise _refusal(exc.smtp_code, "the message") from None
        except smtplib.SMTPNotSupportedError as exc:
            raise PermanentError(f"The SMTP server lacks something: {exc}", "INVALID_INPUT") from None


@contextmanager
def _session(server: Server) -> Iterator[smtplib.SMTP]:
    session = _connect(server)
    try:
        yield session
    finally:
        # Once the message is taken, nothing that happens at the goodbye may make us send it again.
        with suppress(smtplib.SMTPException, OSError):
            session.quit()
        session.close()


def _connect(server: Server) -> smtplib.SMTP:
    context = ssl.create_default_context()
    try:
        if server.security == "tls":
            session: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_SECONDS, context=context)
        else:
            session = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS)
    except smtplib.SMTPException as exc:
        raise TransientError(f"The SMTP server {server.host} does not greet: {exc}", "SERVICE_UNAVAILABLE") from exc
    try:
        if server.security == "starttls":
            session.starttls(context=context)
        if server.user is not None:
            session.login(server.user, server.password or "")
    except smtplib.SMTPAuthenticationError as exc:
        session.close()
        if exc.smtp_code >= 500:
            raise PermanentError(f"The SMTP server {server.host} refuses the login.", "INVALID_CREDENTIALS") from None
        raise TransientError(
            f"The SMTP server {server.host} cannot check the login now.", "SERVICE_UNAVAILABLE"
        ) from None
    except smtplib.SMTPNotSupportedError as exc:
        session.close()
        raise PermanentError(f"The SMTP server {server.host} cannot do it: {exc}", "NOT_CONFIGURED") from None
    except (smtplib.SMTPException, OSError):
        session.close()
        raise
    return session


def _refusal(code: int, what: str) -> CgkTasksError:
    """The server's text is left out: it often quotes the recipient's address."""
    if code >= 500:
        return PermanentError(f"The SMTP server refuses {what} for good ({code}).", "INVALID_INPUT")
    return TransientError(f"The SMTP server refuses {what} for now ({code}).", "SERVICE_UNAVAILABLE")
