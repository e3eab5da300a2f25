"""Webhooks go to public addresses only, and to the very address that was checked."""

import asyncio
import ipaddress
import socket
import ssl
from datetime import UTC, datetime

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from cgk_tasks.builtin.webhooks import post as posting
from cgk_tasks.builtin.webhooks.addresses import check_url, host_of, refuse_private
from cgk_tasks.builtin.webhooks.post import message, new_client, post
from cgk_tasks.builtin.webhooks.public_addresses import is_public
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


PUBLIC = ["8.8.8.8", "192.0.1.1", "100.63.255.255", "198.20.0.1", "2606:4700:4700::1111", "2001:200::1", "2a00::1"]
# IANA's registries of special-purpose addresses for IPv4 and IPv6, and multicast. By their entries, not by our list.
SPECIAL = """
    0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
    192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
    192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
    224.0.0.0/4
    240.0.0.0/4 255.255.255.255/32
    ::1/128 ::/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128
    2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2620:4f:8000::/48
    3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8 ::/96
""".split()  # noqa: SIM905 - as the registries list them
EMBEDDINGS = {"::ffff:0:0": 0, "64:ff9b::": 0, "2002::": 80}


def embedded(prefix, address):
    """The IPv6 address that leads to an IPv4 address."""
    return ipaddress.IPv6Address(
        int(ipaddress.IPv6Address(prefix)) | int(ipaddress.IPv4Address(address)) << EMBEDDINGS[prefix]
    )


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_open_internet_is_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("network", SPECIAL)
def test_a_special_range_is_not_public_from_end_to_end(network):
    found = ipaddress.ip_network(network)
    middle = found[found.num_addresses // 2]
    assert not any(is_public(address) for address in (found[0], middle, found[-1]))


@pytest.mark.parametrize("prefix", EMBEDDINGS)
def test_an_address_that_leads_to_ipv4_is_as_public_as_what_is_inside(prefix):
    special = [ipaddress.ip_network(network) for network in SPECIAL if "." in network]
    assert not any(is_public(embedded(prefix, network[-1])) for network in special)
    assert all(is_public(embedded(prefix, address)) for address in PUBLIC if "." in address)


@given(st.ip_addresses())
def test_nothing_that_python_thinks_private_is_public(address):
    assert not (is_public(address) and (address.is_private or address.is_loopback or address.is_link_local))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://shop.example/hook", "must begin with https"),
        ("ftp://shop.example/hook", "must be like https://host/path"),
        ("https:///hook", "must be like https://host/path"),
        ("shop.example/hook", "must be like https://host/path"),
        ("https://user:word@shop.example/", "must not hold a user"),
        ("https://shop.example:port/", "its port is wrong"),
        ("https://shop.example:99999/", "port of the webhook URL is 99999"),
        ("https://shop.example:0/", "port of the webhook URL is 0"),
        ("https://shop.example:-1/", "port of the webhook URL is -1"),
        ("https://a..b/", r"host of the webhook URL, 'a\.\.b'"),
        ("https://.example/", "host of the webhook URL"),
        ("https://exa mple.com/", "host of the webhook URL"),
        ("https://a%2fb.example/", "host of the webhook URL"),
        ("https://a\\b.example/", "host of the webhook URL"),
        ("https://-a.example/", "host of the webhook URL"),
        (f"https://{'a' * 64}.example/", "host of the webhook URL"),
        (f"https://{'a.' * 130}example/", "host of the webhook URL"),
        ("https://[::1.example/", "its (host|port) is wrong"),
        ("https://\ud800.example/", "its host is wrong"),
        ("https://☃☃.example:x/", "is wrong"),
        ("https://shop.example/\n", "its character is wrong"),
        (f"https://shop.example/{'a' * 2000}", "at most 2,000"),
    ],
)
def test_a_url_of_another_form_is_refused(url, problem):
    with pytest.raises(AddressRefusedError, match=problem):
        check_url(url, ())


@given(
    st.text(st.characters(exclude_categories=()), max_size=30),
    st.sampled_from(["https://{}", "https://{}/", "https://x:{}/", "{}"]),
)
@settings(deadline=None)
def test_any_url_is_taken_or_refused(text, form):
    try:
        url = check_url(form.replace("{}", text), ())
    except AddressRefusedError:
        return
    assert host_of(url).encode("idna")  # as a look-up does
    assert url.port is None or 0 < url.port < 65536


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://localhost/", "https://2130706433/", "https://0x7f.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/"],
)  # fmt: skip
def test_loopback_is_refused_however_it_is_written(url):
    with pytest.raises(AddressRefusedError, match="not all of its addresses are of the open internet"):
        refuse_private(check_url(url, ()), ())


def test_a_name_that_resolves_to_a_private_address_gets_nothing(receiver, setting, dns):
    dns["shop.test"] = [["127.0.0.1"]]
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="other.test")
    answer = send(f"https://shop.test:{receiver.port}/")
    assert "Webhooks do not go to shop.test" in answer.error
    assert receiver.requests == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(dns):
    dns["shop.test"] = [["8.8.8.8", "10.0.0.7"]]
    assert "Webhooks do not go to shop.test" in send("https://shop.test/").error


def test_a_refusal_does_not_tell_the_address(dns, capsys):
    dns["inside.test"] = [["10.98.76.54"]]
    with pytest.raises(AddressRefusedError) as error:
        refuse_private(check_url("https://inside.test/", ()), ())
    told = [str(error.value), send("https://inside.test/").error, *capsys.readouterr()]
    assert "inside.test" in told[0]
    assert not [text for text in told if "10.98" in text]


def test_a_connection_that_is_refused_does_not_tell_the_address(setting, dns):
    dns["inside.test"] = [["127.0.0.9"]]
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="inside.test")
    assert "127.0.0.9" not in send("http://inside.test:9/").error


@pytest.mark.parametrize(
    "text", ["[Errno 111] Connect call failed ('10.98.7.6', 443)", "Connect call failed ('fd00::98:7', 443, 0, 0)"]
)
def test_what_the_system_says_of_a_connection_is_told_without_addresses(text):
    told = posting._told(OSError(text))
    assert "Connect call failed" in told
    assert "98" not in told


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
