"""Whatever lies in the broker: it is read, or it is said what is wrong with it."""

import json
import uuid
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import compression

from cgk_tasks.broker.dead_messages import summary
from cgk_tasks.broker.envelope import PACKET_HEADER, Waiting, packet_message, redis_text, waiting_of
from cgk_tasks.broker.packets import run_ids
from cgk_tasks.broker.unreadable import (
    MAX_BODY_BYTES,
    MAX_MESSAGE_BYTES,
    UnreadableMessageError,
    bound_unpacking,
    problem_of,
    read_envelope,
)
from cgk_tasks.runs.models import Dispatch, new_run_id

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["properties", "headers", "body", "content-type", PACKET_HEADER, "delivery_tag", "delivery_info"]
)
ENVELOPES = st.recursive(JSON, lambda inner: st.dictionaries(FIELDS, inner), max_leaves=10).map(
    lambda value: json.dumps(value).encode()
)
ANYTHING = st.binary() | ENVELOPES


@given(ANYTHING)
def test_an_envelope_is_read_or_refused_with_a_reason(text):
    try:
        message = read_envelope(text)
    except UnreadableMessageError:
        return
    assert isinstance(message["properties"], dict)


@given(ANYTHING)
def test_a_waiting_message_says_when_it_was_dispatched_and_what_is_in_it_or_nothing(text):
    waiting = waiting_of(text)
    assert waiting.dispatched_at is None or waiting.dispatched_at.tzinfo is not None
    assert all(str(uuid.UUID(run_id)) == run_id for run_id in waiting.run_ids)


@given(JSON, st.sampled_from([{}, {PACKET_HEADER: 1.0}]))
def test_a_body_is_used_or_refused_with_a_reason(payload, headers):
    problem = problem_of(headers, payload, PACKET_HEADER)
    if problem is None and PACKET_HEADER in headers:
        assert isinstance(payload[0][0], list)


@given(st.lists(JSON))
def test_what_is_no_id_of_a_run_is_left_out_of_a_packet(listed):
    good = new_run_id()
    assert good in run_ids([*listed, good])


@given(st.lists(ANYTHING))
def test_the_list_of_unreadable_messages_may_hold_anything(entries):
    assert len(summary(entries)) <= len(entries)


def test_our_own_messages_are_read():
    run_id, at = new_run_id(), datetime(2026, 1, 1, 12, 30, 0, 500_000, UTC)
    text = redis_text(packet_message([Dispatch(run_id, "acme", "a.b", "queue", 5, dispatched_at=at)]))
    assert read_envelope(text)["headers"]["task"] == "a.b"
    assert waiting_of(text) == Waiting(at, (run_id,))


def test_a_message_that_is_too_large_is_not_even_parsed():
    with pytest.raises(UnreadableMessageError, match="larger"):
        read_envelope(b" " * (MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "lzma"])
def test_a_small_message_that_unpacks_to_a_large_one_is_refused(kind):
    bound_unpacking()
    packed, content_type = compression.compress(b"a" * (MAX_BODY_BYTES + 1), kind)
    with pytest.raises(UnreadableMessageError, match="unpacked"):
        compression.decompress(packed, content_type)


def test_what_is_packed_and_small_enough_is_unpacked():
    bound_unpacking()
    assert compression.decompress(zlib.compress(b"[]"), "gzip") == b"[]"
