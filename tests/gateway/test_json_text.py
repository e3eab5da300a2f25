"""JSON that two readers could understand differently is refused."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.errors import RequestRefusedError
from cgk_tasks.gateway.json_text import DEEPEST, parsed, to_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_all_other_json_is_read_as_python_reads_it(value):
    assert parsed(json.dumps(value).encode()) == value


@given(JSON)
def test_what_is_written_is_read_again(value):
    assert parsed(to_text(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_refused(data):
    with suppress(RequestRefusedError):
        parsed(data)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{'a': 1}",
        b'{"a": 1, "a": 2}',
        b'[{"b": {"a": 1, "a": 1}}]',
        b"NaN",
        b'{"a": -Infinity}',
        b"1e400",
        b"-1e999",
        b"9" * 5_000,
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b'{"a": 1} {"b": 2}',
        b'"\x01"',
        b"[" * 200 + b"]" * 200,
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
    ],
    ids=lambda text: text[:20].decode("latin-1"),
)
def test_what_is_no_such_json_is_refused(text):
    with pytest.raises(RequestRefusedError) as refused:
        parsed(text)
    assert refused.value.status == 400


def test_the_refusal_quotes_nothing_of_the_body():
    with pytest.raises(RequestRefusedError) as refused:
        parsed(b'{"password": "hunter2" oops}')
    assert "hunter2" not in str(refused.value)


def test_what_is_as_deep_as_may_be_is_read():
    assert parsed(b"[" * DEEPEST + b"]" * DEEPEST)
