"""The signatures of webhooks: those that are published, those of the senders' own ways, and what is none."""

import base64
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.errors import ConfigurationError, RequestRefusedError
from cgk_tasks.inbound.schemes import SCHEMES, check_secrets, delivery_id
from cgk_tasks.inbound.signed_request import SignedRequest
from tests.support import signing

NOW = 1_764_500_000.0
URL = "https://jobs.example.com/v1/webhooks/events"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRETS = {
    "standard": STANDARD,
    "stripe": "whsec_test_secret",
    "shopify": "hush",
    "github": "It's a Secret to Everybody",
    "qstash": "sig_7YoJxFpwkEy5zBp378JgvD6YBDPB",
    "bearer": "0123456789abcdef",
}


def signed(scheme, body, secret=None, at=NOW):
    secret = secret or SECRETS[scheme]
    match scheme:
        case "standard":
            return signing.standard(body, secret, at=at)
        case "stripe":
            return signing.stripe(body, secret, at=at)
        case "shopify":
            return signing.shopify(body, secret)
        case "github":
            return signing.github(body, secret)
        case "qstash":
            return signing.qstash(body, secret, url=URL, at=at)
        case _:
            return {"Authorization": f"Bearer {secret}"}


def request(headers, body, now=NOW, url=URL):
    return SignedRequest({name.lower(): value for name, value in headers.items()}, body, url, now)


def verify(scheme, headers, body, *, secrets=None, now=NOW, url=URL, tolerance=300.0):
    SCHEMES[scheme].verify(request(headers, body, now, url), secrets or [SECRETS[scheme]], tolerance)


def refused(scheme, headers, body, **options):
    with pytest.raises(RequestRefusedError) as caught:
        verify(scheme, headers, body, **options)
    assert (caught.value.status, caught.value.code) == (401, "BAD_SIGNATURE")
    return caught.value.text


every_scheme = pytest.mark.parametrize("scheme", SCHEMES)
of_a_body = pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "bearer"])
with_a_time = pytest.mark.parametrize("scheme", ["standard", "stripe", "qstash"])


# What the senders have published


def test_the_example_of_standard_webhooks_is_right():
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    verify("standard", headers, b'{"test": 2432232314}', secrets=[STANDARD], now=1614265330)


def test_the_example_of_github_is_right():
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    verify("github", {"X-Hub-Signature-256": f"sha256={digest}"}, b"Hello, World!")


# What is signed counts, and nothing else


@every_scheme
@given(body=st.binary(max_size=200))
def test_what_was_signed_counts(scheme, body):
    verify(scheme, signed(scheme, body), body)


@of_a_body
@given(body=st.binary(min_size=1, max_size=200), place=st.integers(0, 199), bit=st.integers(0, 7))
def test_a_body_that_differs_in_one_bit_does_not_count(scheme, body, place, bit):
    altered = bytearray(body)
    altered[place % len(body)] ^= 1 << bit
    refused(scheme, signed(scheme, body), bytes(altered))


@every_scheme
def test_another_secret_does_not_count(scheme):
    other = base64.b64encode(b"another secret of 24 byt").decode() if scheme == "standard" else "another secret of ours"
    refused(scheme, signed(scheme, b"{}", other), b"{}")


@every_scheme
def test_each_of_several_secrets_counts(scheme):
    other = base64.b64encode(b"another secret of 24 byt").decode() if scheme == "standard" else "another secret of ours"
    for used in (SECRETS[scheme], other):
        verify(scheme, signed(scheme, b"{}", used), b"{}", secrets=[other, SECRETS[scheme]])


@every_scheme
def test_a_request_without_a_header_of_the_scheme_says_which_is_missing(scheme):
    headers = signed(scheme, b"{}")
    needed = {"standard": list(headers), "bearer": ["Authorization"]}.get(scheme, [next(iter(headers))])
    for name in needed:
        text = refused(scheme, {one: value for one, value in headers.items() if one != name}, b"{}")
        assert name.lower() in text.lower()


@with_a_time
@pytest.mark.parametrize("seconds", [-400, 400])
def test_a_signature_of_another_time_does_not_count(scheme, seconds):
    refused(scheme, signed(scheme, b"{}", at=NOW + seconds), b"{}")


@with_a_time
def test_the_tolerance_says_how_old_a_signature_may_be(scheme):
    headers = signed(scheme, b"{}", at=NOW - 60)
    verify(scheme, headers, b"{}", tolerance=120)
    refused(scheme, headers, b"{}", tolerance=40)


@every_scheme
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "webhook-id", "webhook-timestamp", "webhook-signature", "stripe-signature", "x-shopify-hmac-sha256",
                "x-hub-signature-256", "upstash-signature", "authorization",
            ]
        ),
        st.text(st.characters(max_codepoint=255), max_size=60)
        | st.sampled_from(["v1,", "t=,v1=", "t=1764500000,v1=x", "1764500000", "..", "a.b.c", "Bearer ", "sha256="]),
    ),
    st.binary(max_size=50),
)  # fmt: skip
def test_whatever_a_request_has_it_is_refused_and_nothing_else_happens(scheme, headers, body):
    refused(scheme, headers, body)


# Single schemes


def test_one_of_several_signatures_of_standard_webhooks_is_enough():
    headers = signed("standard", b"{}")
    headers["webhook-signature"] = f"v1a,AAAA v1,AAAA {headers['webhook-signature']}"
    verify("standard", headers, b"{}")


def test_the_id_is_part_of_what_standard_webhooks_signs():
    refused("standard", signed("standard", b"{}") | {"webhook-id": "msg_2"}, b"{}")


@pytest.mark.parametrize("secret", [STANDARD, STANDARD.removeprefix("whsec_")])
def test_a_secret_of_standard_webhooks_may_be_without_its_prefix(secret):
    verify("standard", signed("standard", b"{}"), b"{}", secrets=[secret])


def test_a_secret_of_standard_webhooks_that_is_no_base64_is_refused():
    with pytest.raises(ConfigurationError, match="Base64"):
        check_secrets("standard", ["whsec_not base64!"])


def test_stripe_signs_with_two_secrets_while_one_is_rolled():
    headers = signed("stripe", b"{}")
    headers["Stripe-Signature"] = headers["Stripe-Signature"].replace(",v1=", f",v1={'0' * 64},v1=")
    verify("stripe", headers, b"{}")


@pytest.mark.parametrize("header", ["v1=abc", "t=1,t=2,v1=abc", "t=x,v1=abc", "t=999999999999999,v1=abc"])
def test_a_signature_of_stripe_without_one_time_is_none(header):
    refused("stripe", {"Stripe-Signature": header}, b"{}")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"sub": "https://other.example.com/"}, "another address"),
        ({"iss": "Somebody"}, "not one of QStash"),
        ({"header": {"alg": "none", "typ": "JWT"}}, "not one of QStash"),
        ({"exp": NOW - 60}, "over"),
        ({"nbf": NOW + 60}, "not count yet"),
        ({"exp": None}, "not count yet"),
        ({"nbf": "soon"}, "not count yet"),
        ({"body": None}, "another body"),
        ({"body": "AAAA"}, "another body"),
    ],
)
def test_a_token_of_qstash_is_for_this_address_body_and_time(claims, said):
    headers = signing.qstash(b"{}", SECRETS["qstash"], url=URL, at=NOW, **{"sub": URL} | claims)
    assert said in refused("qstash", headers, b"{}")


def test_a_token_of_qstash_may_have_the_hash_of_the_body_without_padding():
    token = signing.jwt(b"{}", SECRETS["qstash"], url=URL, at=NOW, body="RBNvo1WzZ4oRRq0W9-hknpT7T8If536DEMBg9hyq_4o")
    verify("qstash", {"Upstash-Signature": token}, b"{}")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_a_token_of_qstash_that_is_signed_and_no_json_is_refused(header, claims):
    import hashlib
    import hmac

    signed_part = f"{signing._encoded(header)}.{signing._encoded(claims)}"
    digest = hmac.new(SECRETS["qstash"].encode(), signed_part.encode(), hashlib.sha256).digest()
    refused("qstash", {"Upstash-Signature": f"{signed_part}.{signing._encoded(digest)}"}, b"{}")


@given(
    st.dictionaries(
        st.sampled_from(["iss", "sub", "exp", "nbf", "iat", "body"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=1),
        min_size=1,
    )
)
def test_whatever_a_signed_token_claims_nothing_but_a_refusal_comes_of_it(claims):
    headers = signing.qstash(b"{}", SECRETS["qstash"], url=URL, at=NOW, **{"sub": URL} | claims)
    with suppress(RequestRefusedError):
        verify("qstash", headers, b"{}")
        assert {"iss", "sub", "body"} & set(claims) == set()  # else it was refused


# By what a delivery is known again


@pytest.mark.parametrize(
    ("scheme", "headers", "payload", "expected"),
    [
        ("standard", {"webhook-id": "msg_1"}, None, "msg_1"),
        ("stripe", {}, {"id": "evt_1"}, "evt_1"),
        ("shopify", {"X-Shopify-Webhook-Id": "w-1"}, None, "w-1"),
        ("github", {"X-GitHub-Delivery": "d-1"}, None, "d-1"),
        ("qstash", {"Upstash-Message-Id": "m-1"}, None, "m-1"),
        ("bearer", {"Idempotency-Key": "k-1"}, None, "k-1"),
    ],
)
def test_a_delivery_has_the_senders_id(scheme, headers, payload, expected):
    assert delivery_id(SCHEMES[scheme], request(headers, b"{}"), payload) == expected


@pytest.mark.parametrize("payload", [None, [], {}, {"id": 7}, {"id": ""}, {"id": "a\0b"}])
def test_a_delivery_without_an_id_is_known_by_its_body(payload):
    ids = [delivery_id(SCHEMES["stripe"], request({}, body), payload) for body in (b"1", b"1", b"2")]
    assert (ids[0] == ids[1], ids[0] == ids[2]) == (True, False)


def test_a_call_with_a_secret_alone_counts_once_in_a_minute():
    minute = NOW // 60 * 60
    ids = [delivery_id(SCHEMES["bearer"], request({}, b"", at), None) for at in (minute, minute + 59, minute + 60)]
    assert (ids[0] == ids[1], ids[0] == ids[2]) == (True, False)


@given(st.text(st.characters(max_codepoint=255), max_size=1_000))
def test_an_id_fits_into_a_key_whatever_it_is(text):
    found = delivery_id(SCHEMES["github"], request({"X-GitHub-Delivery": text}, b"{}"), None)
    assert 0 < len(found) <= 200
    assert "\0" not in found


def test_no_secret_and_no_body_is_in_the_text_of_a_request():
    shown = repr(request({"authorization": "x"}, b"secret body", time.time()))
    assert "secret body" not in shown
