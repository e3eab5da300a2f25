"""An email as the bytes that go to the server, and the proof that its header is what was set and nothing more.

Values come from payloads and from tenants' settings. The standard library decodes encoded words in them (RFC 2047,
`=?utf-8?q?...?=`), and Python before 3.11.10 and 3.12.5 writes what comes out as it is: with a line break in it, that
is another header or another body (CVE-2024-6923). So the finished bytes are checked, on every Python.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Final

from cgk_tasks.builtin.email.templates import Rendered
from cgk_tasks.builtin.library_errors import LIBRARY_ERRORS
from cgk_tasks.errors import PermanentError

MOST_CHARACTERS: Final = 998
"""Of an address or a subject: what a line of an email may have."""

_ERRORS: Final = (*LIBRARY_ERRORS, MessageError)
_SOURCES: Final[Mapping[str, str]] = {
    "From": "The sender (email_from)",
    "To": "The recipient (to)",
    "Subject": "The subject",
    "Message-ID": "The domain of the sender (email_from)",
}
# Folding (RFC 5322): a line break, then a blank, then something that is none.
_LINES: Final = re.compile(rb"[^\r\n]+(?:\r\n[ \t]+[^\r\n \t][^\r\n]*)*\r\n")
_LONE_BREAK: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)")


def one_address(text: str, what: str) -> Address:
    """The one address in a text, with or without a name. Raises PermanentError that does not quote it."""
    header = EmailMessage(policy=SMTP)
    try:
        header["To"] = text if len(text) <= MOST_CHARACTERS else ""
        addresses: tuple[Address, ...] = header["To"].addresses
        is_one = len(addresses) == 1 and not header["To"].defects
    except _ERRORS:
        is_one = False
    if not is_one or not addresses[0].username or not addresses[0].domain:
        raise PermanentError(f"{what} is not one email address.", "INVALID_INPUT")
    return addresses[0]


def compose(
    rendered: Rendered,
    sender: Address,
    recipient: Address,
    *,
    message_id: str,
    at: datetime,
    importance: str | None = None,
) -> bytes:
    """The message with its header. Raises PermanentError that names the field whose value cannot be written."""
    is_ascii = (sender.addr_spec + recipient.addr_spec).isascii()
    message = EmailMessage(policy=SMTP if is_ascii else SMTP.clone(utf8=True))
    fields = {
        "From": sender,
        "To": recipient,
        "Subject": rendered.subject,
        "Date": at,
        "Message-ID": message_id,
        "Importance": importance,
    }
    for name, value in fields.items():
        if value is not None:
            _set(message, name, value)
    _set_bodies(message, rendered)
    content = message.as_bytes()
    header = b"".join(_folded(message, name) for name in message)
    if not content.startswith(header + b"\r\n") or _LONE_BREAK.search(content):
        raise PermanentError("The email cannot be written: its header is not what was set.", "INVALID_INPUT")
    return content


def _set(message: EmailMessage, name: str, value: Any) -> None:
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        raise PermanentError(
            f"{_SOURCES[name]} has {len(value):,} characters; at most {MOST_CHARACTERS} are allowed.", "INVALID_INPUT"
        )
    try:
        message[name] = value
        # What the encoded words in the value stand for is in the text now.
        text = str(message[name]).replace("\t", " ")
        controls = any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text)
        is_fit = not controls and _is_one_field(name, _folded(message, name))
    except _ERRORS:
        is_fit = False
    if not is_fit:
        raise PermanentError(
            f"{_SOURCES.get(name, name)} cannot be the header {name} of an email: it has a line break, another control "
            "character or half a character in it, perhaps inside an encoded word (=?...?=).",
            "INVALID_INPUT",
        )


def _set_bodies(message: EmailMessage, rendered: Rendered) -> None:
    try:
        if rendered.text is not None:
            message.set_content(rendered.text)
        if rendered.html is not None and rendered.text is None:
            message.set_content(rendered.html, subtype="html")
        elif rendered.html is not None:
            message.add_alternative(rendered.html, subtype="html")
    except UnicodeError:
        raise PermanentError(
            "A body of the email cannot be written: it has half a character in it (a lone surrogate).", "INVALID_INPUT"
        ) from None


def _folded(message: EmailMessage, name: str) -> bytes:
    folded: bytes = message.policy.fold_binary(name, message[name])
    return folded


def _is_one_field(name: str, folded: bytes) -> bool:
    return folded.startswith(f"{name}: ".encode()) and _LINES.fullmatch(folded) is not None
