"""Handing an email to an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def parse_url(url: str) -> Server:
    """The server that a URL names. Raises ConfigurationError, which quotes nothing of the URL but its host."""
    try:
        parts = urlsplit(url)
        security, port = _SECURITY[parts.scheme], parts.port
        (parts.hostname or "").encode("idna")
    except (KeyError, ValueError):
        raise ConfigurationError(
            "An smtp_url must be like smtp+starttls://user:password@host:587, smtps://user:password@host or smtp://host."
        ) from None
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        # What stands before an unescaped / would be taken for the host, and it is the user or the password.
        raise ConfigurationError(
            "An smtp_url ends with the host or the port. Write /, ? and # in a user or a password as %2F, %3F and %23."
        )
    if not parts.hostname:
        raise ConfigurationError("An smtp_url names no host.", hint="Write it like smtps://user:password@host.")
    user, password = _login(parts)
    if not ((user or "") + (password or "")).isascii():
        raise ConfigurationError(
            "The user and the password of an smtp_url must be ASCII: logins by SMTP know no other."
        )
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


def send(server: Server, content: bytes, *, sender: str, recipient: str) -> None:
    """Hand a message over: when this returns, the server has taken it.

    Raises PermanentError for what the server refuses for good, TransientError or OSError for what may pass. None of
    them quotes the message, its recipient or the login.
    """
    options = () if (sender + recipient).isascii() else ("SMTPUTF8", "BODY=8BITMIME")
    with _session(server) as session:
        try:
            session.ehlo_or_helo_if_needed()
            if options and not session.has_extn("smtputf8"):
                raise PermanentError(
                    f"An address is not ASCII, and the SMTP server {server.host} knows no SMTPUTF8.", "INVALID_INPUT"
                )
            session.sendmail(sender, [recipient], content, options)
        except smtplib.SMTPRecipientsRefused as exc:
            code, _text = exc.recipients[recipient]
            raise _refusal(code, "the recipient") from None
        except smtplib.SMTPSenderRefused as exc:
            raise _refusal(exc.smtp_code, "the sender") from None
        except smtplib.SMTPResponseException as exc:
            raise _refusal(exc.smtp_code, "the message") from None
        except smtplib.SMTPException as exc:
            raise _broken_off(server, exc) from None


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
    except smtplib.SMTPException as exc:
        session.close()
        raise _broken_off(server, exc) from None
    except OSError:
        session.close()
        raise
    return session


def _broken_off(server: Server, exc: smtplib.SMTPException) -> TransientError:
    """Without the exception's text: a server may answer with what it was told, a login too."""
    return TransientError(
        f"The SMTP server {server.host} broke the session off ({type(exc).__name__}).", "SERVICE_UNAVAILABLE"
    )


def _refusal(code: int, what: str) -> CgkTasksError:
    """The server's text is left out: it often quotes the recipient's address."""
    if code >= 500:
        return PermanentError(f"The SMTP server refuses {what} for good ({code}).", "INVALID_INPUT")
    return TransientError(f"The SMTP server refuses {what} for now ({code}).", "SERVICE_UNAVAILABLE")
