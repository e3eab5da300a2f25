"""An SMTP server on loopback that keeps what it is sent, and refuses what a test tells it to."""

import email
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default as default_policy

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


@dataclass
class Mailbox:
    """`refusals`: what is answered to a step (`RCPT`, `DATA`), taken in turn."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    used_tls: list[bool] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=dict)

    @property
    def message(self) -> EmailMessage:
        (only,) = self.messages
        return only


class _Handler:
    """What the server calls at each step. It looks at all members of this class, so the mailbox is one of its own."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def _refusal(self, step: str) -> str | None:
        left = self._mailbox.refusals.get(step)
        return left.pop(0) if left else None

    async def handle_RCPT(self, server, session, envelope, address, options):
        if (refusal := self._refusal("RCPT")) is not None:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if (refusal := self._refusal("DATA")) is not None:
            return refusal
        mailbox = self._mailbox
        mailbox.messages.append(email.message_from_bytes(envelope.content, policy=default_policy))
        mailbox.senders.append(envelope.mail_from)
        mailbox.recipients += envelope.rcpt_tos
        mailbox.used_tls.append(session.ssl is not None)
        return "250 taken"

    def check_login(self, server, session, envelope, mechanism, login):
        given = (login.login.decode(), login.password.decode())
        self._mailbox.logins.append(given)
        return AuthResult(success=given[1] != "wrong", handled=False)


@contextmanager
def mail_server(tls=None, *, implicit: bool = False, login: bool = False) -> Iterator[Mailbox]:
    """tls: an SSLContext, for STARTTLS, or from the first byte with `implicit`. login: offer AUTH."""
    mailbox = Mailbox()
    handler = _Handler(mailbox)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        mailbox.port = free.getsockname()[1]
    options = {"require_starttls": True, "tls_context": tls} if tls is not None and not implicit else {}
    if login:
        options |= {"authenticator": handler.check_login, "auth_require_tls": tls is not None and not implicit}
    controller = Controller(
        handler, hostname="127.0.0.1", port=mailbox.port, ssl_context=tls if implicit else None, **options
    )
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


@contextmanager
def echoing_server(step: str, code: str) -> Iterator[int]:
    """An SMTP server that answers to one step (`EHLO`, `AUTH`, `MAIL`, `RCPT`, `DATA`, `end` of the message) with a
    code of the test's and all that it was told, the login in the clear too. Yields its port.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 hello\r\n")
            told = "planted-user planted-word"
            while line := self.rfile.readline().decode(errors="replace").strip():
                command = line[:4].upper()
                told += f" {line}"
                if command == step.upper():
                    self.wfile.write(f"{code} {told}\r\n".encode())
                elif command == "EHLO":
                    self.wfile.write(b"250-hello\r\n250 AUTH PLAIN\r\n")
                elif command == "AUTH":
                    self.wfile.write(b"235 welcome\r\n")
                elif command == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    while self.rfile.readline() not in {b".\r\n", b""}:
                        pass
                    self.wfile.write(f"{code} {told}\r\n".encode())
                else:
                    self.wfile.write(b"250 OK\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
