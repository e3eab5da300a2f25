"""Sending an event from the dashboard, and replays with another payload: by a form, and as JSON."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import get_job_status
from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.send_options import read_options
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.dashboard.dashboard_support import actions

SEND = "/events/order.created/send"
SECRET = "ada.secret@example.com"
ORDER = {"tenant": "acme", "f.orderId": "o-1", "f.totalAmount": "59.97"}


@pytest.fixture(scope="module")
def dashboard(start_dashboard):
    return start_dashboard(CGK_JOB_MODULES="tests.support.form_jobs")


def send(browser, path=SEND, query="", **fields):
    return browser.submit(browser.open(f"{path}{query}"), path, **fields)


def last_line():
    return audit.lines(limit=1)[0]


def new_run(answer):
    assert "/runs/" in answer.url, answer.text
    return get_job_status(answer.url.rpartition("/")[2])


def runs_in_all():
    with autocommit() as connection:
        return connection.execute(
            "SELECT (SELECT count(*) FROM cgk.runs) + (SELECT count(*) FROM cgk.run_history)"
        ).fetchone()[0]


def problems(text):
    """What is said at each control."""
    pattern = r'<p class="field-problem" id="([\w-]+)-problem">(.*?)</p>'
    return dict(re.findall(pattern, text))


def said_by(text, name):
    """What a control says."""
    return re.search(rf'name="{re.escape(name)}"[^>]*? value="([^"]*)"', text)[1]


def test_a_form_sends_the_event_and_ends_at_its_run(oscar):
    answer = send(oscar, **ORDER, **{"f.currency": "EUR"})
    run = new_run(answer)
    assert "Sent. This is its run." in answer.text
    assert (run.event, run.tenant_id) == ("order.created", "acme")
    assert run.payload == {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97, "currency": "EUR"}


def test_the_audit_has_the_fields_and_none_of_their_values(oscar):
    run = new_run(
        send(oscar, "/events/customer.created/send", tenant="acme", **{"f.customerId": "c-1", "f.email": SECRET})
    )
    line = last_line()
    assert (line.who, line.action, line.subject, line.tenant_id, line.affected, line.outcome) == (
        "oscar", "send event", "customer.created", "acme", 1, "done",
    )  # fmt: skip
    assert line.message == f"run {run.id}, accepted; fields: customerId, email"
    assert run.payload["email"] == SECRET


def test_every_kind_of_field_arrives_as_its_type(oscar):
    run = new_run(send(
        oscar, "/events/parcel.packed/send", tenant="acme", **{
            "f.parcelId": "p-1", "f.weight": "1.5", "f.carrier": '"courier"', "f.isFragile": "true",
            "f.readyAt": "2026-01-31T09:00", "f.labels": "this side up\r\nglass", "f.address.street": "High St 1",
        },
    ))  # fmt: skip
    assert run.payload == {
        "tenantId": "acme", "parcelId": "p-1", "weight": 1.5, "carrier": "courier", "isFragile": True,
        "readyAt": "2026-01-31T09:00:00Z", "labels": ["this side up", "glass"], "address": {"street": "High St 1"},
    }  # fmt: skip


def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(oscar):
    before = runs_in_all()
    answer = send(oscar, tenant="acme", **{"f.totalAmount": "a lot", "f.currency": "EUR"})
    assert answer.status_code == 400
    assert problems(answer.text) == {"f-orderId": "is missing", "f-totalAmount": "must be a number, not a string"}
    assert 'aria-describedby="f-totalAmount-hint f-totalAmount-problem"' in answer.text
    assert (said_by(answer.text, "f.totalAmount"), said_by(answer.text, "f.currency")) == ("a lot", "EUR")
    assert said_by(answer.text, "tenant") == "acme"
    assert runs_in_all() == before
    assert last_line().outcome == "refused"


def test_what_is_typed_is_no_markup(oscar):
    answer = send(oscar, tenant='"><b>', **{"f.orderId": '"><script>', "f.totalAmount": "<i>"})
    assert not {"<script>", "<b>", "<i>"} & set(re.findall(r"<\w+>", answer.text))


@pytest.mark.parametrize(
    ("tenant", "said"), [("", "is missing"), ("nobody", "There is no tenant"), ("Not One", "is not a tenant id")]
)
def test_a_tenant_that_is_none_is_said_beside_it(oscar, tenant, said):
    answer = send(oscar, **{**ORDER, "tenant": tenant})
    assert answer.status_code == 400
    assert said in problems(answer.text)["tenant"]


def test_a_suspended_tenants_run_is_held(oscar):
    suspend_tenant("globex", by="billing")
    try:
        run = new_run(send(oscar, **{**ORDER, "tenant": "globex"}))
    finally:
        resume_tenant("globex")
    assert (run.tenant_id, run.state) == ("globex", "held")
    assert last_line().outcome == "done"


def test_options_delay_the_run_and_give_it_a_priority(oscar):
    run = new_run(send(oscar, **ORDER, **{"o.delay": "2h", "o.priority": "8"}))
    assert run.state == "scheduled"
    with autocommit() as connection:
        due, priority = connection.execute(
            "SELECT run_at - created_at, priority FROM cgk.runs WHERE id = %s", [run.id]
        ).fetchone()
    assert (round(due.total_seconds() / 60), priority) == (120, 8)


def test_a_key_that_was_used_leads_to_its_run(oscar):
    key = {"o.idempotency_key": "order-o-77"}
    first = new_run(send(oscar, **ORDER, **key))
    again = send(oscar, **ORDER, **key)
    assert new_run(again).id == first.id
    assert "Nothing new was sent" in again.text
    assert last_line().affected == 0


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("o.delay", "soon", "must be such as 90s"),
        ("o.run_at", "9999-99-99", "must be a time"),
        ("o.priority", "12", "from 0"),
    ],
)
def test_an_option_that_is_wrong_is_said_beside_it(oscar, option, text, said):
    answer = send(oscar, **ORDER, **{option: text})
    assert answer.status_code == 400
    assert said in problems(answer.text)["o"]


def test_of_a_delay_and_a_time_one_is_enough():
    with pytest.raises(InvalidOptionError):
        read_options({"delay": "5m", "run_at": "2026-03-01T09:00"})


def test_options_are_read_as_people_write_them():
    read = read_options({"delay": "90 s", "priority": "0", "idempotency_key": " k ", "run_at": ""})
    assert read == {"delay": 90.0, "priority": 0, "idempotency_key": "k"}
    at = read_options({"run_at": "2026-03-01T09:00"})["run_at"]
    assert at == datetime(2026, 3, 1, 9, tzinfo=UTC)


def test_json_sends_the_same_event(oscar):
    payload = json.dumps({"orderId": "o-2", "totalAmount": 5})
    run = new_run(send(oscar, query="?as=json", tenant="acme", payload=payload))
    assert run.payload == {"tenantId": "acme", "orderId": "o-2", "totalAmount": 5.0}


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ('{"tenantId": "globex", "orderId": "o", "totalAmount": 1}', "names another tenant"),
        ("not json", "it is not JSON"),
        ("[]", "it must be an object"), ('{"orderId": "o"}', "&#x27;totalAmount&#x27; is missing"),
    ],
)  # fmt: skip
def test_json_that_does_not_fit_comes_back_with_what_is_wrong(oscar, payload, said):
    before = runs_in_all()
    answer = send(oscar, query="?as=json", tenant="acme", payload=payload)
    assert answer.status_code == 400
    assert said in answer.text.replace("&#39;", "&#x27;")
    assert payload.replace('"', "&quot;") in answer.text
    assert runs_in_all() == before
    assert (last_line().action, last_line().outcome) == ("send event", "refused")


def test_a_rate_limit_leaves_no_run_and_says_so(oscar):
    path = "/events/parcel.flood/send"
    first = send(oscar, path, tenant="acme", **{"f.number": "1"})
    assert "/runs/" in first.url
    again = send(oscar, path, tenant="acme", **{"f.number": "2"})
    assert again.url.endswith("/events/parcel.flood")
    assert "the rate limit of the job left no room" in again.text


def test_what_a_singleton_lets_wait_leads_to_the_open_run(oscar):
    path, fields = "/events/parcel.packed/send", {"tenant": "acme", "f.parcelId": "p-9", "f.weight": "2"}
    first = new_run(send(oscar, path, **fields))
    again = send(oscar, path, **fields)
    assert new_run(again).id == first.id
    assert "this run is still open" in again.text


def test_telemetry_is_sent_and_leaves_no_run(oscar):
    answer = send(oscar, "/events/parcel.seen/send", tenant="acme", **{"f.at": "2026-01-31T09:00"})
    assert answer.url.endswith("/events/parcel.seen")
    assert "leave no record" in answer.text


def test_what_cgk_tasks_alone_sends_nobody_sends_by_hand(oscar):
    answer = oscar.open("/events/django.task/send")
    assert answer.status_code == 400
    assert "is sent by cgk_tasks alone" in answer.text


def test_an_event_that_nobody_knows_has_no_form(oscar):
    assert oscar.open("/events/order.creatd/send").status_code == 404


def test_a_viewer_sees_no_form_and_sends_nothing(dashboard):
    viola = dashboard.browser("viola")
    assert viola.open(SEND).status_code == 403
    viola.open("/audit")
    answer = viola.post(f"{viola.base}{SEND}", data={"_xsrf": viola.cookies["_xsrf"], **ORDER}, timeout=30)
    assert answer.status_code == 403


def test_without_the_token_nothing_is_sent(oscar):
    before = runs_in_all()
    assert oscar.post(f"{oscar.base}{SEND}", data=ORDER, timeout=30).status_code == 403
    assert runs_in_all() == before


# Replays


def test_a_replay_by_form_keeps_what_is_hidden_and_what_is_left_alone(oscar, closed_run):
    run_id = closed_run("customer.created", payload={"customerId": "c-1", "email": SECRET})
    page = oscar.open(f"/runs/{run_id}")
    assert SECRET not in page.text
    run = new_run(oscar.submit(page, f"/runs/{run_id}/replay", **{"f.customerId": "c-2"}))
    assert run.payload == {"tenantId": "acme", "customerId": "c-2", "email": SECRET}
    assert run.replay_of == run_id
    assert last_line().message == f"new run {run.id}, changed: customerId"


def test_a_replay_as_json_reads_what_a_send_reads(oscar, closed_run):
    run_id = closed_run("parcel.packed", payload={"parcelId": "p-1", "weight": 1.5})
    payload = {"tenantId": "acme", "parcelId": "p-1", "weight": 1.5, "due": "2026-03-01"}
    page = oscar.open(f"/runs/{run_id}?replay=json")
    run = new_run(oscar.submit(page, f"/runs/{run_id}/replay", payload=json.dumps(payload)))
    assert run.payload["due"] == "2026-03-01"


def test_a_form_that_is_left_alone_repeats_every_field(oscar, closed_run):
    payload = {
        "parcelId": "p\r\n1", "weight": 1.25, "carrier": "courier", "isFragile": False, "labels": ["a", "b c"],
        "readyAt": "2026-01-31T09:00:00.123456+02:00", "address": {"street": "High\nSt", "zipCode": "1"}, "phone": "1",
    }  # fmt: skip
    run_id = closed_run("parcel.packed", payload=payload)
    run = new_run(oscar.submit(oscar.open(f"/runs/{run_id}"), f"/runs/{run_id}/replay"))
    assert run.payload == {"tenantId": "acme", **payload}
    assert last_line().message.endswith("changed: nothing")


def test_a_replay_by_form_says_what_is_wrong_beside_the_field(oscar, closed_run):
    run_id = closed_run()
    answer = oscar.submit(oscar.open(f"/runs/{run_id}"), f"/runs/{run_id}/replay", **{"f.totalAmount": "x"})
    assert answer.status_code == 400
    assert problems(answer.text) == {"f-totalAmount": "must be a number, not a string"}
    assert (said_by(answer.text, "f.totalAmount"), said_by(answer.text, "f.orderId")) == ("x", "o-1")
    assert last_line().outcome == "refused"


def test_a_replay_stays_with_its_tenant_whatever_the_form_says(oscar, closed_run):
    run_id = closed_run()
    answer = oscar.submit(
        oscar.open(f"/runs/{run_id}"), f"/runs/{run_id}/replay", tenant="globex", **{"f.tenantId": "globex"}
    )
    assert new_run(answer).tenant_id == "acme"


def test_json_is_a_link_away_and_back(oscar, closed_run):
    run_id = closed_run()
    assert f'href="/runs/{run_id}?replay=json#replay"' in oscar.open(f"/runs/{run_id}").text
    text = oscar.open(f"/runs/{run_id}?replay=json").text
    assert '<textarea id="edited"' in text
    assert f'href="/runs/{run_id}#replay"' in text


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("order.created", {"orderId": "o", "totalAmount": 1, "coupon": "x"}),
        ("shop.tasks.resize", {"args": [], "kwargs": {}}),
    ],
)
def test_what_no_form_can_show_is_json(oscar, closed_run, event, payload):
    run_id = closed_run(event, payload=payload)
    text = oscar.open(f"/runs/{run_id}").text
    assert '<textarea id="edited"' in text
    assert 'id="as-form"' not in text


def test_a_viewer_sees_no_form_of_a_replay(dashboard, closed_run):
    text = dashboard.browser("viola").open(f"/runs/{closed_run()}").text
    assert actions(text) == set()
    assert "f.orderId" not in text


# Production


@pytest.fixture(scope="module")
def production(start_dashboard):
    return start_dashboard(CGK_ENVIRONMENT="Production", CGK_JOB_MODULES="tests.support.form_jobs").browser("oscar")


def test_production_stands_out_on_every_page(production):
    for path in ("/overview", "/events", "/nothing-here"):
        assert '<span class="cgk-environment cgk-production">Production</span>' in production.open(path).text


def test_another_environment_has_its_name_and_asks_nothing(start_dashboard):
    browser = start_dashboard(CGK_ENVIRONMENT="staging <1>").browser("oscar")
    text = browser.open(SEND).text
    assert '<span class="cgk-environment">staging &lt;1&gt;</span>' in text
    assert 'name="confirm"' not in text


def test_without_a_name_there_is_no_mark(oscar):
    assert "cgk-environment" not in oscar.open("/overview").text


def test_in_production_nothing_is_sent_before_the_box_is_ticked(production):
    before = runs_in_all()
    answer = send(production, **ORDER)
    assert answer.status_code == 400
    assert "must be ticked" in problems(answer.text)["confirm"]
    assert said_by(answer.text, "f.orderId") == "o-1"
    assert runs_in_all() == before
    assert new_run(send(production, **ORDER, confirm="yes")).tenant_id == "acme"


@pytest.mark.parametrize(
    "typed", [{"f.orderId": "o-2"}, {"payload": '{"tenantId": "acme", "orderId": "o-2", "totalAmount": 1}'}]
)
def test_in_production_a_replay_is_confirmed_too(production, closed_run, typed):
    run_id = closed_run()
    path = f"/runs/{run_id}/replay"
    answer = production.submit(production.open(f"/runs/{run_id}"), path, **typed)
    assert answer.status_code == 400
    assert "must be ticked" in problems(answer.text)["confirm"]
    answer = production.submit(production.open(f"/runs/{run_id}"), path, **typed, confirm="yes")
    assert new_run(answer).payload["orderId"] == "o-2"


def test_a_send_that_names_a_time_waits_for_it(oscar):
    at = datetime.now(UTC) + timedelta(days=1)
    run = new_run(send(oscar, **ORDER, **{"o.run_at": f"{at:%Y-%m-%dT%H:%M}"}))
    assert (run.state, run.run_at) == ("scheduled", at.replace(second=0, microsecond=0))
