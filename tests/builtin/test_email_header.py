"""The header of an email is what was set, whatever stands in payloads and in tenants' settings."""

import base64
from datetime import UTC, datetime
from email import message_from_string
from email.parser import BytesParser
from email.policy import default as default_policy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cgk_tasks.builtin.email.message import compose, one_address
from cgk_tasks.builtin.email.templates import Rendered
from cgk_tasks.errors import PermanentError

NAMES = ["From", "To", "Subject", "Date", "Message-ID", "Importance"]
INJECTED = "a=0D=0ABcc=3A_eve=40evil.example"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
HOSTILE = st.sampled_from(
    ["a\r\nBcc: eve@evil.example", "a\r\n\r\n<b>body</b>", "\n", "\r", "a\r\n x", "\0", "\u2028", "\x85b"]
)


def quoted_word(text):
    raw = text.encode("utf-8", "surrogatepass")
    return "=?utf-8?q?" + "".join(f"={byte:02X}" for byte in raw) + "?="


def base64_word(text):
    return f"=?utf-8?b?{base64.b64encode(text.encode('utf-8', 'surrogatepass')).decode()}?="


WORDS = st.one_of(HOSTILE, ANY_TEXT).flatmap(lambda text: st.sampled_from([quoted_word(text), base64_word(text)]))
VALUES = st.lists(st.one_of(ANY_TEXT, WORDS, HOSTILE, st.just(" "), st.just('"')), max_size=4).map("".join)


def header_lines(content):
    """As a server reads it: up to the first empty line, a field a line once folding is reclaimed."""
    header, _, body = content.partition(b"\r\n\r\n")
    return header.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t").split(b"\r\n"), body


def composed(*, subject="Hello", to="ada@customer.example", sender="shop@shop.example", text="the text"):
    addresses = one_address(sender, "The sender"), one_address(to, "The recipient")
    return compose(
        Rendered(subject, text, None),
        *addresses,
        message_id=f"<0199d0c2@{addresses[0].domain}>",
        at=datetime(2026, 3, 1, tzinfo=UTC),
        importance="high",
    )


def attempted(**fields):
    """The bytes, or the text of the refusal."""
    try:
        return composed(**fields), None
    except PermanentError as exc:
        return None, str(exc)


def assert_is_what_was_set(content, text="the text"):
    lines, body = header_lines(content)
    names = [line.partition(b":")[0].decode() for line in lines]
    assert names[: len(NAMES)] == NAMES
    assert set(names[len(NAMES) :]) <= {"MIME-Version", "Content-Type", "Content-Transfer-Encoding"}
    for part in (b"".join(lines), body.replace(b"\r\n", b"")):
        assert set(part).isdisjoint(b"\r\n")
    parsed = BytesParser(policy=default_policy).parsebytes(content)
    assert parsed.get_content().rstrip("\r\n") == text


@given(value=VALUES)
@example(f"=?utf-8?q?{INJECTED}?=")
@example("x " * 45 + f"=?utf-8?q?{INJECTED}?=")
@example(base64_word("a\r\n\r\n<b>another body</b>"))
@settings(deadline=None, max_examples=300)
def test_a_subject_is_refused_or_is_one_field(value):
    content, refusal = attempted(subject=" ".join(value.split()))
    if content is None:
        assert refusal.startswith("The subject ")
    else:
        assert_is_what_was_set(content)


@given(name=VALUES, local=VALUES, domain=VALUES, field=st.sampled_from(["to", "sender"]))
@settings(deadline=None, max_examples=300)
def test_an_address_is_refused_or_is_one_field(name, local, domain, field):
    for text in (f"{name} <ada@x.example>", f'"{name}" <ada@x.example>', f"{local}@x.example", f"ada@{domain}", name):
        content, refusal = attempted(**{field: text})
        if content is None:
            assert "is not one email address" in refusal or "cannot be the header" in refusal
        else:
            assert_is_what_was_set(content)


@given(text=st.text(max_size=200))
@settings(deadline=None)
def test_a_body_is_only_a_body(text):
    lines, body = header_lines(composed(text=text))
    assert [line.partition(b":")[0].decode() for line in lines][: len(NAMES)] == NAMES
    assert set(body.replace(b"\r\n", b"")).isdisjoint(b"\r\n")


@pytest.mark.parametrize(
    "subject", ["Grüße aus Köln", "価格のお知らせ " * 20, "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "word " * 100, "💶" * 90]
)
def test_an_honest_subject_arrives(subject):
    parsed = BytesParser(policy=default_policy).parsebytes(composed(subject=subject.strip()))
    assert parsed["Subject"] == subject.replace("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße").strip()


@pytest.mark.parametrize(
    "to", ["Ada Lovelace <ada@customer.example>", '"Lovelace, Ada" <ada@customer.example>', "Jürgen Müller <jm@x.example>",
           "ada+news@customer.example", '"two words"@customer.example', "ada@[192.0.2.1]", "jm@müller.example"],
)  # fmt: skip
def test_an_honest_address_is_taken(to):
    parsed = message_from_string(composed(to=to).decode(), policy=default_policy)
    assert parsed["To"].addresses == (one_address(to, "it"),)


@pytest.mark.parametrize(
    ("field", "text"), [("subject", "s" * 999), ("text", "half \ud800"), ("subject", "half \ud800")]
)
def test_what_cannot_be_written_fails_for_good_and_is_named(field, text):
    with pytest.raises(PermanentError, match=r"subject|body") as error:
        composed(**{field: text})
    assert error.value.code == "INVALID_INPUT"
