"""CGK_TRACE_URL: which templates are taken, and where the page of a run leads."""

import pytest

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.links import schedule_path, trace_link, trace_of
from cgk_tasks.errors import ConfigurationError

JAEGER = "https://jaeger.example/trace/{trace_id}"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


def link(template, traceparent=SAMPLED):
    return trace_link(template, traceparent, run_id="r-1", tenant_id="acme")


@pytest.mark.parametrize(
    "template",
    [
        JAEGER,
        "http://10.0.0.7:16686/trace/{trace_id}?uiFind={span_id}",
        "https://x.example/search?q={run_id}#{tenant_id}",
    ],
)
def test_an_address_with_known_names_is_taken(setting, template):
    setting(CGK_TRACE_URL=template)
    assert get_settings().trace_url == template


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("jaeger.example/trace/{trace_id}", "must begin with https:// or http://"),
        ("javascript://x/%0aalert(1)//{trace_id}", "must begin with https:// or http://"),
        ("https://jaeger.example/{traceid}", '{run_id}, {tenant_id}. Did you mean "trace_id"?'),
        ("https://jaeger.example/{}", "{} is not known"),
        ("https://jaeger.example/{trace_id", "a brace stands alone"),
        ("https://{tenant_id}.example/", "names in braces come after it"),
        ("https:///trace/{trace_id}", "must begin with a host"),
        ("https://jaeger.example:port/{trace_id}", "it is no address"),
        ("https://jaeger.example/a b/{trace_id}", "no spaces"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_another_is_said_at_the_start(setting, template, said):
    setting(CGK_TRACE_URL=template)
    with pytest.raises(ConfigurationError) as refused:
        get_settings()
    assert said in str(refused.value)
    assert "CGK_TRACE_URL" in str(refused.value)


def test_the_names_are_replaced():
    assert link(JAEGER) == f"https://jaeger.example/trace/{TRACE}"
    assert link("https://x/{span_id}?run={run_id}&tenant={tenant_id}") == f"https://x/{SPAN}?run=r-1&tenant=acme"


def test_a_trace_whose_id_is_random_was_sampled_all_the_same():
    assert link(JAEGER, f"00-{TRACE}-{SPAN}-03") == f"https://jaeger.example/trace/{TRACE}"


def test_what_is_put_in_stays_in_its_place():
    found = trace_link("https://x/{run_id}", None, run_id="a/../b?c#d", tenant_id="acme")
    assert found == "https://x/a%2F..%2Fb%3Fc%23d"


@pytest.mark.parametrize("traceparent", [None, "", "00-nothing-01", SAMPLED[:-2] + "00"], ids=repr)
def test_without_a_trace_on_record_that_was_sampled_there_is_no_link(traceparent):
    assert link(JAEGER, traceparent) is None
    assert link("https://x/?run={run_id}", traceparent) == "https://x/?run=r-1"


def test_without_the_setting_there_is_no_link():
    assert link(None) is None


def test_the_trace_is_that_of_the_sender_else_that_of_the_last_failed_attempt():
    errors = [{"trace": "first"}, {"trace": "last"}, {"code": "X"}]
    assert trace_of({"trace": "sender"}, errors) == "sender"
    assert trace_of({"trace": None}, errors) == "last"
    assert trace_of({"trace": None}, []) is None


def test_a_schedule_leads_to_its_page_and_one_that_a_tenant_made_to_the_list():
    assert schedule_path("ops.cleanup", "acme") == ("/schedules/ops.cleanup", {})
    assert schedule_path("tenant:01a2", "acme") == ("/schedules/of-tenants", {"tenant": "acme"})
