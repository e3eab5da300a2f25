"""Messages that cannot be read: what is wrong with them, and how large anything may be that is read.

Anybody who can write to the broker can put anything there. Nothing of it may end a worker, and what one worker cannot
read the next one cannot either, so such a message is set aside and not put back.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kombu import compression
from kombu.utils.json import loads
from pydantic_core import from_json

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Of a message's body, unpacked. The largest of ours is a packet of a hundred ids, or telemetry with its payload."""

MAX_MESSAGE_BYTES = 2 * MAX_BODY_BYTES
"""With its headers, in base64."""

_PROTOCOL_2 = 3

FOLLOWS = ("callbacks", "errbacks", "chain", "chord")
"""Where a message says what is sent when its task has ended. Celery looks in its headers as well as in its body."""


class UnreadableMessageError(Exception):
    """The text says what is wrong with the message, and quotes nothing of it."""


def read_envelope(text: bytes | str) -> dict[str, Any]:
    """The message that lay in a list of Redis. Raises UnreadableMessageError."""
    if len(text) > MAX_MESSAGE_BYTES:
        raise UnreadableMessageError(f"it is larger than {MAX_MESSAGE_BYTES:,} bytes")
    try:
        message = _json_of(text)
    except UnicodeDecodeError:
        raise UnreadableMessageError("it is not UTF-8") from None
    except Exception:  # noqa: BLE001 - Kombu makes objects of some JSON, and what it makes may refuse its values
        raise UnreadableMessageError("it is not JSON") from None
    if not isinstance(message, dict):
        raise UnreadableMessageError("it is no JSON object")
    properties = message.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_tag"), str | int):
        raise UnreadableMessageError("it has no delivery tag")
    if not isinstance(properties.get("delivery_info") or {}, dict):
        raise UnreadableMessageError("its delivery information is no JSON object")
    if not isinstance(message.get("headers") or {}, dict):
        raise UnreadableMessageError("its headers are no JSON object")
    if not isinstance(message.get("body") or "", str):
        raise UnreadableMessageError("its body is no text")
    return message


def _json_of(text: bytes | str) -> Any:
    """As Kombu reads it; three times as fast where it marks no types, which a message of ours does not."""
    if (b"__type__" if isinstance(text, bytes) else "__type__") not in text:  # type: ignore[operator]  # alike
        try:
            return from_json(text)
        except ValueError:  # or nothing but another notion of what is JSON
            pass
    return loads(text)


def problem_of(headers: Mapping[str, Any], payload: object, packet_header: str) -> str | None:
    """What is wrong with the body of a message for a task; None if nothing is. A packet's first argument lists ids."""
    if isinstance(payload, dict):
        return "a packet's body is no JSON list" if packet_header in headers else None  # Celery's protocol 1
    if not isinstance(payload, list | tuple):
        return "its body is no JSON list"
    if len(payload) != _PROTOCOL_2:
        return f"its body has {len(payload)} parts in place of arguments, keyword arguments and what follows"
    args, kwargs, follows = payload
    if not isinstance(args, list | tuple) or not isinstance(kwargs, dict) or not isinstance(follows or {}, dict):
        return "its body has not arguments, keyword arguments and what follows"
    return _problem_of_packet(headers, args, follows or {}) if packet_header in headers else None


def _problem_of_packet(headers: Mapping[str, Any], args: Sequence[Any], follows: Mapping[str, Any]) -> str | None:
    if not (args and isinstance(args[0], list | tuple)):
        return "it lists no runs"
    for name in FOLLOWS:
        if follows.get(name) or headers.get(name):
            return "it says what follows its runs, which is for the record to say"
    return None


def bound_unpacking() -> None:
    """From now on this process unpacks no message beyond `MAX_BODY_BYTES`, whatever little it takes packed."""
    known: dict[str, tuple[Callable[[], Any], list[str]]] = {
        "application/x-gzip": (zlib.decompressobj, ["gzip", "zlib"]),
        "application/x-bz2": (bz2.BZ2Decompressor, ["bzip2", "bzip"]),
        "application/x-lzma": (lzma.LZMADecompressor, ["lzma", "xz"]),
    }
    for content_type in compression.encoders():
        encoder: Any = compression.get_encoder(content_type)[0]  # type: ignore[index]  # it is a pair
        make, aliases = known.get(content_type, (None, []))
        compression.register(encoder, _bounded(make) if make else _refused(content_type), content_type, aliases)


def _bounded(make: Callable[[], Any]) -> Callable[[bytes], bytes]:
    def unpack(packed: bytes) -> bytes:
        try:
            unpacked: bytes = make().decompress(packed, MAX_BODY_BYTES + 1)
        except (zlib.error, lzma.LZMAError, OSError, ValueError):
            raise UnreadableMessageError("its body cannot be unpacked") from None
        if len(unpacked) > MAX_BODY_BYTES:
            raise UnreadableMessageError(f"its body is larger than {MAX_BODY_BYTES:,} bytes unpacked")
        return unpacked

    return unpack


def _refused(content_type: str) -> Callable[[bytes], bytes]:
    def unpack(_packed: bytes) -> bytes:
        raise UnreadableMessageError(f"its body is packed as {content_type}, whose size cannot be bounded")

    return unpack
