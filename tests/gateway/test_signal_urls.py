"""`wf.signal_url`: an address that a person opens; GET asks, POST delivers, once."""

import base64
import json
from datetime import timedelta

import pytest

from cgk_tasks import cancel_run, get_run, get_settings, send_job
from cgk_tasks.config.encryption_keys import new_key
from cgk_tasks.errors import ConfigurationError, InvalidOptionError, SignalUrlError
from cgk_tasks.testing import LocalJobs
from cgk_tasks.workflows import signal_urls
from cgk_tasks.workflows.signal_urls import new_issue, read_token, signal_url, valid_seconds
from tests.gateway import url_workflows
from tests.support.waiting import wait_closed, wait_until

RUN = "01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11"


@pytest.fixture(scope="module")
def urls(gateway):
    """CGK_SIGNAL_URL, for this process and its worker."""
    from cgk_tasks.config import use_settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_SIGNAL_URL", f"{gateway}/signals/")
        use_settings(None)
        yield
    use_settings(None)


@pytest.fixture(scope="module")
def worker(urls, start_worker):
    return start_worker(["tests.gateway.url_workflows"])


@pytest.fixture
def asked(worker, tmp_path):
    """A run that waits, and its two addresses."""
    notes = tmp_path / "urls"
    run_id = send_job(url_workflows.Asked(tenant_id="acme", notes=str(notes))).id
    wait_until(lambda: get_run(run_id).state == "scheduled")
    return run_id, *notes.read_text().split()


def made(name="approve", seconds=600.0, payload=True, run_id=RUN, tenant="acme"):
    return signal_url(run_id, tenant, name, new_issue(seconds), payload)


def token_of(url):
    return url.rpartition("/")[2]


def test_the_page_asks_and_changes_nothing(nobody, asked):
    run_id, yes, _no = asked
    pages = [nobody.get(yes) for _ in range(3)]
    assert {page.status_code for page in pages} == {200}
    assert ("decision" in pages[0].text, '<form method="post">' in pages[0].text) == (True, True)
    assert get_run(run_id).state == "scheduled"


def test_the_button_delivers(nobody, asked):
    run_id, yes, _no = asked
    page = nobody.post(yes)
    assert (page.status_code, "was received" in page.text) == (200, True)
    assert wait_closed(run_id).result is True


def test_each_address_delivers_what_it_was_made_with(nobody, asked):
    run_id, _yes, no = asked
    nobody.post(no)
    assert wait_closed(run_id).result is False


def test_an_address_counts_once(nobody, asked):
    _run_id, yes, _no = asked
    nobody.post(yes)
    again = nobody.post(yes)
    assert (again.status_code, "Nothing was done" in again.text or "counts once" in again.text) == (410, True)


def test_a_used_address_says_so_when_it_is_opened(nobody, worker, tmp_path):
    from cgk_tasks import signal_run

    run_id = send_job(url_workflows.Asked(tenant_id="acme", notes=str(tmp_path / "urls")), delay=600).id
    url = made("decision", run_id=run_id)
    signal = read_token(token_of(url))
    signal_run(run_id, "decision", True, key=signal.key)
    page = nobody.get(url)
    assert (page.status_code, "Already used" in page.text) == (410, True)


def test_the_address_is_the_same_in_all_legs(nobody, asked, tmp_path):
    run_id, yes, _no = asked
    nobody.post(yes)
    wait_closed(run_id)
    lines = (tmp_path / "urls").read_text().splitlines()
    assert (len(lines), len(set(lines))) == (2, 1)


def test_a_coroutine_has_addresses_too(nobody, worker, tmp_path):
    notes = tmp_path / "urls"
    run_id = send_job(url_workflows.AskedAsync(tenant_id="acme", notes=str(notes))).id
    wait_until(lambda: get_run(run_id).state == "scheduled")
    nobody.post(notes.read_text().strip())
    assert wait_closed(run_id).result is True


def test_an_address_of_a_run_that_has_ended_says_so(nobody, asked):
    run_id, yes, _no = asked
    cancel_run(run_id)
    pages = [nobody.get(yes), nobody.post(yes)]
    assert [(page.status_code, "has ended" in page.text) for page in pages] == [(410, True)] * 2


def test_an_address_whose_time_is_over_says_so(nobody, urls):
    url = made(seconds=-1.0)
    pages = [nobody.get(url), nobody.post(url)]
    assert [(page.status_code, "over" in page.text) for page in pages] == [(410, True)] * 2


@pytest.mark.parametrize("place", [3, 20, -1])
def test_an_address_that_was_altered_is_none(nobody, urls, place):
    url, token = made(), token_of(made())
    at = place % len(token)
    altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
    page = nobody.post(url.replace(token_of(url), altered))
    assert (page.status_code, "altered" in page.text) == (404, True)


@pytest.mark.parametrize("token", ["x", ".", "a.b", "%00", "é.é", "A" * 9_000, "<script>alert(1)</script>"])
def test_what_is_no_token_has_a_page_that_says_so(nobody, urls, token):
    page = nobody.get(f"/signals/{token}")
    assert (page.status_code, "<script" in page.text) == (404, False)


def test_what_an_address_says_cannot_be_made_another_tenants(urls):
    said, signature = token_of(made()).split(".")
    text = base64.urlsafe_b64decode(said + "==").replace(b"acme", b"evil")
    other = base64.urlsafe_b64encode(text).decode().rstrip("=")
    with pytest.raises(SignalUrlError):
        read_token(f"{other}.{signature}")


def test_a_token_has_one_spelling(urls):
    token = token_of(made())
    with pytest.raises(SignalUrlError):
        read_token(f"{token}=")


def test_the_pages_allow_no_script_no_frame_and_no_other_place(nobody, urls):
    page = nobody.get(made())
    policy = page.headers["Content-Security-Policy"]
    said = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert (said["default-src"], said["frame-ancestors"], said["form-action"]) == ("'none'", "'none'", "'self'")
    assert ("script-src" in said, "unsafe" in policy) == (False, False)
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"


def test_a_name_is_shown_as_text(nobody, worker, tmp_path):
    run_id = send_job(url_workflows.Asked(tenant_id="acme", notes=str(tmp_path / "urls")), delay=600).id
    page = nobody.get(made("<img src=x onerror=alert(1)>", run_id=run_id))
    assert (page.status_code, "<img" in page.text) == (200, False)


def test_a_run_of_another_tenant_is_not_reached(nobody, worker, tmp_path):
    run_id = send_job(url_workflows.Asked(tenant_id="globex", notes=str(tmp_path / "urls")), delay=600).id
    page = nobody.post(made("decision", run_id=run_id, tenant="acme"))
    assert page.status_code == 410


def test_a_test_without_servers_answers_for_the_person(urls, tmp_path):
    notes = tmp_path / "urls"
    with LocalJobs() as local:
        run_id = local.send(url_workflows.Asked(tenant_id="acme", notes=str(notes))).id
        wait_until(lambda: local.client.get_run_status(run_id).state == "scheduled")
        signal = read_token(token_of(notes.read_text().split()[0]))
        local.client.signal(signal.run_id, signal.name, json.loads(signal.payload), key=signal.key)
        (run,) = local.wait_idle()
    assert (signal.run_id, run.result) == (run_id, True)


# Keys and settings


def test_addresses_of_before_a_rotation_count_as_long_as_their_key_is_there(urls, setting):
    old, new = new_key(), new_key()
    setting(CGK_SIGNAL_URL_KEYS=old)
    token = token_of(made())
    setting(CGK_SIGNAL_URL_KEYS=f"{new},{old}")
    assert read_token(token).name == "approve"
    setting(CGK_SIGNAL_URL_KEYS=new)
    with pytest.raises(SignalUrlError):
        read_token(token)


def test_without_keys_of_their_own_addresses_are_signed_with_ones_derived_from_the_others(urls, setting):
    token = token_of(made())
    setting(CGK_ENCRYPTION_KEYS=new_key())
    with pytest.raises(SignalUrlError):
        read_token(token)


def test_without_any_key_there_is_no_address(urls, setting):
    setting(CGK_ENCRYPTION_KEYS=None)
    with pytest.raises(ConfigurationError, match="key"):
        signal_urls.check_settings()


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_place_there_is_no_address(database, setting, value):
    setting(CGK_SIGNAL_URL=value)
    with pytest.raises(ConfigurationError, match="address"):
        signal_urls.check_settings()


def test_a_place_is_an_address_of_the_web(database, setting):
    setting(CGK_SIGNAL_URL="jobs.example.com/signals")
    with pytest.raises(ConfigurationError, match=r"CGK_SIGNAL_URL: .*https://"):
        get_settings()


@pytest.mark.parametrize("valid", [0, -5, float("nan"), float("inf"), True, "1d", None, timedelta(days=50_000)])
def test_a_time_that_cannot_be_is_refused(valid):
    with pytest.raises(InvalidOptionError, match="valid"):
        valid_seconds(valid, True)


@pytest.mark.parametrize("payload", [None, object(), "x" * 2_000], ids=lambda value: str(value)[:20])
def test_a_payload_that_cannot_be_is_refused(payload):
    with pytest.raises(InvalidOptionError, match="payload"):
        valid_seconds(60, payload)
