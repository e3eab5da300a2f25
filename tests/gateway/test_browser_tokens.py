"""Browsers' tokens: what they open, for how long, and that it is nothing else."""

from datetime import timedelta
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cgk_tasks import cancel_run, send_job
from cgk_tasks.config.encryption_keys import new_key
from cgk_tasks.errors import (
    ConfigurationError,
    InvalidOptionError,
    RequestRefusedError,
    TenantContextError,
    UnknownTenantError,
)
from cgk_tasks.gateway import create_browser_token, create_key, revoke_key
from cgk_tasks.gateway.asgi import ENDPOINTS, STREAMS
from cgk_tasks.gateway.browser_tokens import read_token
from cgk_tasks.sql.clock import CLOCK
from cgk_tasks.tenancy import tenant_context
from cgk_tasks.tenancy.platform import PLATFORM_TENANT, ensure_platform_tenant
from tests.gateway.gateway_support import secret_of
from tests.gateway.stream_support import stream, until_state
from tests.support import jobs  # noqa: F401 - defines test.behave

NOBODY = "nobody-listens"


def sent(tenant="acme"):
    return send_job("test.behave", {"tenantId": tenant, "action": "echo"}, queue=NOBODY).id


def of(run_id):
    return f"/v1/runs/{run_id}/stream"


def opened(client, path, token, *, in_address=False):
    """What a stream is answered that ends at once."""
    with_token = {"params": {"wait": 0, "token": token}} if in_address else {
        "params": {"wait": 0}, "headers": {"Authorization": f"Bearer {token}"},
    }  # fmt: skip
    return client.get(path, **with_token)


@pytest.fixture(scope="module")
def run(database):
    return sent()


@pytest.fixture(scope="module")
def token(run):
    """For that run."""
    return create_browser_token("acme", run).token


# What a token opens


@pytest.mark.parametrize("in_address", [False, True], ids=["in the header", "in the address"])
def test_a_token_of_a_run_opens_its_stream(nobody, run, token, in_address):
    answer = opened(nobody, of(run), token, in_address=in_address)
    assert (answer.status_code, run in answer.text) == (200, True)


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path, *_ in ENDPOINTS if path not in STREAMS], ids=str
)
@pytest.mark.parametrize("in_address", [False, True], ids=["in the header", "in the address"])
def test_a_token_opens_nothing_but_streams(nobody, run, method, path, in_address):
    all_runs = create_browser_token("acme", all_runs=True).token
    url = path.format(event="test.behave", id=run, name="answer")
    how = {"params": {"token": all_runs}} if in_address else {"headers": {"Authorization": f"Bearer {all_runs}"}}
    assert nobody.request(method, url, **how).status_code == 401


def test_a_token_of_a_run_opens_no_other_run_and_not_all_of_them(nobody, token):
    refused = [opened(nobody, path, token) for path in (of(sent()), of(sent("globex")), "/v1/stream")]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(403, "FORBIDDEN")] * 3


def test_a_token_of_all_runs_opens_each_of_the_tenant_and_none_of_another(nobody, run):
    token = create_browser_token("acme", all_runs=True).token
    answers = [opened(nobody, path, token) for path in ("/v1/stream", of(run), of(sent("globex")))]
    assert [answer.status_code for answer in answers] == [200, 200, 404]


def test_a_tenants_stream_that_a_token_opens_tells_nothing_of_other_tenants(nobody, new_tenant):
    token = create_browser_token(new_tenant, all_runs=True).token
    with stream(nobody, "/v1/stream", token=token) as messages:
        other, mine = sent("globex"), sent(new_tenant)
        told = until_state(messages, mine, "pending")
    assert other not in str(told)


def test_a_token_for_another_tenants_run_opens_nothing(nobody):
    run_id = sent("globex")
    assert opened(nobody, of(run_id), create_browser_token("acme", run_id).token).status_code == 404


def test_a_token_says_the_run_in_capitals_too(nobody, run):
    assert opened(nobody, of(run.upper()), create_browser_token("acme", run.upper()).token).status_code == 200


# What is no token


def test_without_a_token_a_stream_says_what_it_takes(nobody, run):
    refused = nobody.get(of(run))
    assert (refused.status_code, "parameter token" in refused.json()["hint"]) == (401, True)


def test_a_key_opens_no_stream_by_the_address(nobody, run):
    assert opened(nobody, of(run), secret_of("acme", ["read"]), in_address=True).status_code == 401


def test_a_token_twice_is_refused(api, run, token):
    assert api.get(of(run), params={"token": token}).status_code == 400
    assert api.get(f"{of(run)}?token={token}&token={token}", headers={"Authorization": ""}).status_code == 400


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), other=st.characters(min_codepoint=33, max_codepoint=126))
def test_a_token_that_was_altered_is_refused(token, place, other):
    """Of the last character two bits say nothing."""
    place %= len(token) - 1
    if token[place] == other:
        return
    with pytest.raises(RequestRefusedError) as refused:
        read_token(token[:place] + other + token[place + 1 :])
    assert refused.value.status == 401


@pytest.mark.parametrize("cut", [1, 10, 43, 60])
def test_a_token_that_was_cut_off_is_refused(nobody, run, token, cut):
    assert opened(nobody, of(run), token[:-cut], in_address=True).status_code == 401


@pytest.mark.parametrize("text", ["", "cgkt_", "cgkt_.", "cgkt_" + "x" * 3_000, "cgkt_ü", "cgkt_a.b.c"])
def test_what_is_no_token_is_refused(nobody, run, text):
    assert nobody.get(f"{of(run)}?token={quote(text)}").status_code == 401


# How long it counts


def test_a_token_counts_no_longer_than_it_says(nobody, run, monkeypatch):
    token = create_browser_token("acme", run, expires=timedelta(minutes=5)).token
    monkeypatch.setattr(CLOCK.current(), "ahead", timedelta(minutes=4))
    before = opened(nobody, of(run), token)
    monkeypatch.setattr(CLOCK.current(), "ahead", timedelta(minutes=6))
    after = opened(nobody, of(run), token)
    assert (before.status_code, after.status_code, "over" in after.json()["detail"]) == (200, 401, True)


def test_a_stream_ends_with_its_token(nobody, run):
    token = create_browser_token("acme", run, expires=1).token
    with stream(nobody, of(run), token=token) as messages:
        assert [one.kind for one in messages if one.kind != "comment"] == ["message"]


def test_a_token_that_a_key_has_made_ends_with_the_key(nobody, connect, run):
    key = create_key("acme", ["read"])
    made = connect.with_key(key.secret.get_secret_value()).post("/v1/tokens", json={"runId": run}).json()
    before = opened(nobody, of(run), made["token"])
    revoke_key(key.id)
    after = opened(nobody, of(run), made["token"])
    assert (before.status_code, after.status_code) == (200, 401)


# What it is signed with


def test_keys_can_be_rotated(run, setting):
    old, new = new_key(), new_key()
    setting(CGK_BROWSER_TOKEN_KEYS=old)
    token = create_browser_token("acme", run).token
    setting(CGK_BROWSER_TOKEN_KEYS=f"{new},{old}")
    assert read_token(token).run_id == run
    newer = create_browser_token("acme", run).token
    setting(CGK_BROWSER_TOKEN_KEYS=new)
    assert read_token(newer).run_id == run
    with pytest.raises(RequestRefusedError, match="altered"):
        read_token(token)


def test_the_keys_can_be_in_a_file(run, setting, tmp_path):
    (tmp_path / "keys").write_text(f"{new_key()}\n")
    setting(CGK_BROWSER_TOKEN_KEYS_FILE=str(tmp_path / "keys"))
    token = create_browser_token("acme", run).token
    setting(CGK_BROWSER_TOKEN_KEYS_FILE=None)
    with pytest.raises(RequestRefusedError):
        read_token(token)


def test_without_a_key_to_sign_with_there_are_no_tokens(run, setting):
    setting(CGK_ENCRYPTION_KEYS=None)
    with pytest.raises(ConfigurationError, match="CGK_BROWSER_TOKEN_KEYS"):
        create_browser_token("acme", run)


# In Python


def test_what_a_token_says_is_told_and_the_token_itself_is_not_shown(run):
    made = create_browser_token("acme", run)
    assert (made.tenant_id, made.run_id, made.token in repr(made)) == ("acme", run, False)


@pytest.mark.parametrize(
    "options",
    [{}, {"run_id": "01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11", "all_runs": True}, {"all_runs": True, "expires": 0.5},
     {"all_runs": True, "expires": 86_401}, {"all_runs": True, "expires": True}, {"all_runs": True, "expires": "1"}],
    ids=str,
)  # fmt: skip
def test_what_no_token_can_be_made_of_is_refused(database, options):
    with pytest.raises(InvalidOptionError):
        create_browser_token("acme", **options)


def test_there_are_no_tokens_of_the_platform_and_of_tenants_that_there_are_not(database):
    ensure_platform_tenant()
    with pytest.raises(InvalidOptionError, match="platform"):
        create_browser_token(PLATFORM_TENANT, all_runs=True)
    with pytest.raises(UnknownTenantError):
        create_browser_token("nobody", all_runs=True)


def test_a_tenants_code_makes_tokens_of_its_own_alone(database):
    with tenant_context("acme"):
        assert create_browser_token("acme", all_runs=True).run_id is None
        with pytest.raises(TenantContextError):
            create_browser_token("globex", all_runs=True)


# By HTTP


def test_a_key_that_may_read_makes_tokens(connect, nobody, run):
    made = connect("acme", ["read"]).post("/v1/tokens", json={"runId": run, "expires": 600})
    assert (made.status_code, made.json()["runId"]) == (201, run)
    assert opened(nobody, of(run), made.json()["token"]).status_code == 200


def test_a_token_for_all_runs_is_asked_for_by_name(connect, nobody):
    made = connect("acme", ["read"]).post("/v1/tokens", json={"allRuns": True})
    assert (made.status_code, made.json()["runId"]) == (201, None)
    assert opened(nobody, "/v1/stream", made.json()["token"]).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"allRuns": False}, 400), ({"allRuns": True, "runId": "x"}, 400),
     ({"allRuns": True, "tenant": "globex"}, 400), ([], 400),
     ({"allRuns": True, "expires": "600"}, 400), ({"allRuns": True, "expires": 0}, 422),
     ({"allRuns": True, "expires": 90_000}, 422), ({"runId": None}, 404), ({"runId": 7}, 404),
     ({"runId": "01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11"}, 404)],
    ids=str,
)  # fmt: skip
def test_a_body_that_no_token_can_be_made_of_is_refused(api, body, status):
    assert api.post("/v1/tokens", json=body).status_code == status


def test_no_token_is_made_for_another_tenants_run(api):
    assert api.post("/v1/tokens", json={"runId": sent("globex")}).status_code == 404


def test_a_token_of_a_run_that_has_ended_tells_its_end(nobody):
    run_id = sent()
    cancel_run(run_id)
    token = create_browser_token("acme", run_id).token
    with stream(nobody, of(run_id), token=token) as messages:
        assert [one.state for one in messages] == ["cancelled"]


def test_a_token_is_in_no_log(gateway, run, capfd):
    token = create_browser_token("acme", run).token
    httpx.get(f"{gateway}{of(run)}", params={"wait": 0, "token": token})
    said = "".join(capfd.readouterr())
    assert ("/v1/runs/{id}/stream" in said, token in said) == (True, False)
