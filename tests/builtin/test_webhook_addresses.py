"""Webhooks go to public addresses only, and to the very address that was checked."""

import asyncio
import ipaddress
import socket
import ssl
from datetime import UTC, datetime

import pytest
import trustme

from cgk_tasks.builtin.webhooks import post as posting
from cgk_tasks.builtin.webhooks.addresses import check_url, is_public, refuse_private
from cgk_tasks.builtin.webhooks.post import message, new_client, post
from cgk_tasks.errors import AddressRefusedError
from tests.support.receiver import receiving

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HELLO = message("msg_1", "hello", datetime(2026, 3, 1, tzinfo=UTC), {})


def send(url):
    async def once():
        async with new_client() as client:
            return await post(client, url, [SECRET], HELLO)

    return asyncio.run(once())


@pytest.fixture
def dns(monkeypatch):
    """Names of this test's own: `dns["shop.test"] = [["203.0.113.7"]]`, one list for each look-up;
    the last one stays.
    """
    names = {}
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host not in names:
            return real(host, port, *args, **kwargs)
        answers = names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_of_the_open_internet_is_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1",
        "ff02::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_any_other_address_is_not(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://shop.example/hook", "must begin with https"),
        ("ftp://shop.example/hook", "must be like https://host/path"),
        ("https:///hook", "must be like https://host/path"),
        ("shop.example/hook", "must be like https://host/path"),
        ("https://user:word@shop.example/", "must not hold a user"),
        ("https://shop.example:port/", "cannot be read"),
    ],
)
def test_a_url_of_another_form_is_refused(url, problem):
    with pytest.raises(AddressRefusedError, match=problem):
        check_url(url, ())


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://localhost/", "https://2130706433/", "https://0x7f.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/"],
)  # fmt: skip
def test_loopback_is_refused_however_it_is_written(url):
    with pytest.raises(AddressRefusedError, match="private address"):
        refuse_private(check_url(url, ()), ())


def test_a_name_that_resolves_to_a_private_address_gets_nothing(receiver, setting, dns):
    dns["shop.test"] = [["127.0.0.1"]]
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="other.test")
    answer = send(f"https://shop.test:{receiver.port}/")
    assert "private address 127.0.0.1" in answer.error
    assert receiver.requests == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(dns):
    dns["shop.test"] = [["203.0.113.7", "10.0.0.7"]]
    assert "private address" in send("https://shop.test/").error


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(receiver, setting, dns):
    """A name server that answers otherwise at the second look-up gains nothing."""
    dns["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="rebind.test")
    with receiving("127.0.0.2") as elsewhere:
        answer = send(receiver.url(host="rebind.test"))
    assert (answer.status, len(receiver.requests), elsewhere.requests) == (200, 1, [])


def test_the_receiver_is_told_its_own_name(receiver, setting, dns):
    dns["shop.test"] = [["127.0.0.1"]]
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="shop.test")
    send(receiver.url(host="shop.test"))
    assert receiver.requests[0].headers["host"] == f"shop.test:{receiver.port}"


def test_the_next_address_of_a_name_is_tried_when_one_does_not_answer(receiver, setting, dns):
    dns["shop.test"] = [["127.0.0.3", "127.0.0.1"]]
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="shop.test")
    assert send(receiver.url(host="shop.test")).status == 200


def test_a_redirect_to_a_private_address_is_not_followed(receiver, setting):
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1")
    with receiving("127.0.0.2") as inside:
        receiver.answers["/"] = lambda handler: (
            handler.send_response(307), handler.send_header("Location", inside.url("/admin")), handler.end_headers()
        )  # fmt: skip
        answer = send(receiver.url())
    assert "redirects are not followed" in answer.error
    assert inside.requests == []


def test_a_proxy_of_the_environment_is_not_used(receiver, setting, monkeypatch):
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1")
    with receiving("127.0.0.2") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        assert send(receiver.url()).status == 200
        assert proxy.requests == []


class TestWithTls:
    @pytest.fixture
    def authority(self, monkeypatch, tmp_path):
        """A certificate authority that is trusted while the test runs."""
        made = trustme.CA()
        made.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        posting._tls.cache_clear()
        yield made
        posting._tls.cache_clear()

    @pytest.fixture
    def serve(self, authority, setting, dns):
        """A receiver whose certificate is for `name`; reached as shop.test."""

        def with_certificate_of(name):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name).configure_cert(context)
            return receiving(wrap=lambda plain: context.wrap_socket(plain, server_side=True))

        dns["shop.test"] = [["127.0.0.1"]]
        setting(CGK_WEBHOOK_PRIVATE_HOSTS="shop.test")
        return with_certificate_of

    def test_the_certificate_is_checked_against_the_name(self, serve):
        with serve("shop.test") as receiver:
            assert send(f"https://shop.test:{receiver.port}/").status == 200

    def test_a_certificate_of_another_name_is_refused(self, serve):
        with serve("other.test") as receiver:
            answer = send(f"https://shop.test:{receiver.port}/")
        assert (answer.status, receiver.requests) == (None, [])
        assert "certificate" in answer.error.lower()


class TestTimeLimit:
    @pytest.mark.parametrize("way", ["stall", "drip"])
    def test_an_endpoint_that_does_not_come_to_an_end_is_given_up(self, receiver, setting, way):
        setting(CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1", CGK_WEBHOOK_TIMEOUT_SECONDS="0.4")
        receiver.answers["/"] = getattr(receiver, way)
        answer = send(receiver.url())
        assert answer.error == "no complete answer within 0.4 s"
        assert answer.seconds < 5
