"""How fast passwords can be guessed, by one client and by many, and whose address counts behind proxies."""

import pytest
import requests
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from cgk_tasks.dashboard.access import login_limiter
from cgk_tasks.dashboard.access.client_address import TrustedProxies
from cgk_tasks.dashboard.access.login_limiter import LoginLimiter
from cgk_tasks.errors import ConfigurationError
from tests.dashboard.dashboard_support import PASSWORDS


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return LoginLimiter(clock)


def test_after_five_failures_an_address_waits_out_the_minute_for_that_user(limiter, clock):
    for _ in range(5):
        assert limiter.wait_seconds("ada", "10.0.0.1") == 0
        limiter.failed("Ada", "10.0.0.1")
    assert limiter.wait_seconds("ada", "10.0.0.1") == 60
    assert limiter.wait_seconds("bo", "10.0.0.1") == 0
    assert limiter.wait_seconds("ada", "10.0.0.2") == 0
    clock.now = 61.0
    assert limiter.wait_seconds("ada", "10.0.0.1") == 0


def test_a_success_forgets_the_failures_before_it(limiter):
    for _ in range(4):
        limiter.failed("ada", "10.0.0.1")
    limiter.succeeded("ada", "10.0.0.1")
    limiter.failed("ada", "10.0.0.1")
    assert limiter.wait_seconds("ada", "10.0.0.1") == 0


def test_an_address_that_tries_one_user_after_the_other_waits_too(limiter):
    for number in range(50):
        limiter.failed(f"user-{number}", "10.0.0.1")
    assert limiter.wait_seconds("another", "10.0.0.1") == 60


def test_guesses_from_many_addresses_delay_a_user_and_lock_nobody_out(limiter, clock):
    for number in range(500):
        limiter.failed("ada", f"10.0.{number // 250}.{number % 250}")
    assert limiter.wait_seconds("ada", "192.0.2.1") == 0
    assert limiter.delay_seconds("ada", "192.0.2.1") == 10
    assert limiter.delay_seconds("bo", "192.0.2.1") == 0
    clock.now = 901.0
    assert limiter.delay_seconds("ada", "192.0.2.1") == 0


def test_where_a_user_has_logged_in_from_there_is_no_delay(limiter):
    limiter.succeeded("ada", "192.0.2.1")
    for number in range(30):
        limiter.failed("ada", f"10.0.0.{number}")
    assert limiter.delay_seconds("ada", "192.0.2.1") == 0
    assert limiter.delay_seconds("ada", "192.0.2.2") == 10


def test_the_addresses_of_one_ipv6_network_are_one(limiter):
    for number in range(5):
        limiter.failed("ada", f"2001:db8:1:2::{number}")
    assert limiter.wait_seconds("ada", "2001:db8:1:2:ffff::1") == 60
    assert limiter.wait_seconds("ada", "2001:db8:1:3::1") == 0


def test_an_ipv4_address_in_ipv6_is_that_address_alone(limiter):
    for _ in range(5):
        limiter.failed("ada", "::ffff:10.0.0.1")
    assert limiter.wait_seconds("ada", "10.0.0.1") == 60
    assert limiter.wait_seconds("ada", "::ffff:10.0.0.2") == 0


def test_the_memory_for_failures_is_bounded(limiter, monkeypatch):
    monkeypatch.setattr(login_limiter, "MOST_KEYS", 100)
    for number in range(1000):
        limiter.failed(f"user-{number}", f"10.0.{number // 250}.{number % 250}")
        limiter.succeeded(f"user-{number}", "10.1.1.1")
    assert [len(one._times) for one in (limiter._pairs, limiter._addresses, limiter._users)] == [100, 100, 100]
    assert len(limiter._known) == 100


def request(peer, **headers):
    given = HTTPHeaders({"Host": "h", **{name.replace("_", "-"): text for name, text in headers.items()}})
    made = HTTPServerRequest(start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=given)
    made.remote_ip, made.protocol = peer, "http"
    return made


@pytest.mark.parametrize(("peer", "forwarded", "client"), [
    ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
    ("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
    ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
    ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
    ("10.0.0.1", "nonsense, 10.0.0.2", "10.0.0.2"),
    ("10.0.0.1", "", "10.0.0.1"),
    ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
    ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
    ("0.0.0.0", "198.51.100.7", "198.51.100.7"),
])  # fmt: skip
def test_the_client_is_the_last_address_before_trusted_proxies(peer, forwarded, client):
    made = request(peer, X_Forwarded_For=forwarded)
    TrustedProxies(["10.0.0.0/8", "unix"]).apply(made)
    assert made.remote_ip == client


@pytest.mark.parametrize(("peer", "protocol"), [("10.0.0.1", "https"), ("192.0.2.1", "http")])
def test_the_protocol_comes_from_trusted_proxies_alone(peer, protocol):
    made = request(peer, X_Forwarded_Proto="https")
    TrustedProxies(["10.0.0.1"]).apply(made)
    assert made.protocol == protocol


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33"])
def test_what_is_no_network_is_an_error(text):
    with pytest.raises(ConfigurationError, match="CGK_DASHBOARD_TRUSTED_PROXIES"):
        TrustedProxies([text])


@pytest.fixture(scope="module")
def behind_a_proxy(start_dashboard):
    return start_dashboard(CGK_DASHBOARD_TRUSTED_PROXIES="127.0.0.1")


def log_in(browser, password, address):
    page = browser.open("/login")
    fields = {"_xsrf": browser.cookies["_xsrf"], "name": "ada", "password": password}
    assert page.ok
    return browser.post(f"{browser.base}/login", data=fields, headers={"X-Forwarded-For": address}, timeout=30)


def test_whoever_guesses_locks_out_nobody_elsewhere(behind_a_proxy):
    browser = behind_a_proxy.browser()
    answers = [log_in(browser, f"guess-{number}-long", "198.51.100.7") for number in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["Retry-After"]) <= 60
    assert "Too many failed logins" in answers[-1].text
    assert log_in(browser, PASSWORDS["ada"], "198.51.100.7").status_code == 429
    assert log_in(browser, PASSWORDS["ada"], "203.0.113.9").status_code == 200


def test_without_a_trusted_proxy_the_header_is_not_believed(start_dashboard):
    browser = start_dashboard(options=("--port=0", "--xheaders=True")).browser()
    codes = [log_in(browser, f"guess-{number}-long", f"10.0.0.{number}").status_code for number in range(6)]
    assert codes == [401] * 5 + [429]


def test_passwords_of_basic_auth_are_limited_too(behind_a_proxy):
    def ask(password):
        return requests.get(f"{behind_a_proxy.url}/metrics", auth=("viola", password), timeout=30)

    assert [ask(f"guess-{number}-long").status_code for number in range(6)] == [401] * 5 + [429]
    assert ask(PASSWORDS["viola"]).status_code == 429


def test_flowers_own_passwords_are_limited_too(start_dashboard):
    dashboard = start_dashboard(options=("--port=0", "--basic_auth=ada:right-one"))

    def ask(path, password):
        return requests.get(f"{dashboard.url}{path}", auth=("ada", password), timeout=30)

    answer = ask("/runs", "wrong")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="cgk_tasks"')
    codes = [ask(path, "wrong").status_code for path in ("/", "/flower/api/workers", "/flower/tasks", "/metrics")]
    assert codes == [401] * 4
    assert [ask(path, "right-one").status_code for path in ("/runs", "/flower/api/workers")] == [429, 429]
