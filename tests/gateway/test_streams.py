"""Streams: what they tell, of whose runs, in which order, and for how long."""

import threading
import time
from contextlib import ExitStack

import httpx
import pytest

from cgk_tasks import cancel_run, send_job, send_jobs
from cgk_tasks.events import TenantEvent
from cgk_tasks.gateway import application, watched_runs, watching
from cgk_tasks.runs import progress
from cgk_tasks.sql import door
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import autocommit, retry_while_unavailable
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.gateway.gateway_support import secret_of, served
from tests.gateway.stream_support import runs_in, stream, until, until_state
from tests.support.claims import claim_here
from tests.support.waiting import busyness, wait_until

NOBODY = "nobody-listens"


class Watched(TenantEvent, event="test.watched"):
    """Nobody's job runs it here."""


class Other(TenantEvent, event="test.watchedToo"):
    """Nor this."""


def sent(tenant="acme", event=Watched, queue=NOBODY):
    return send_job(event(tenant_id=tenant), queue=queue).id


def of(run_id):
    return f"/v1/runs/{run_id}/stream"


@pytest.fixture
def mine(new_tenant, connect):
    """A tenant of the test's own, and a client with its key."""
    return new_tenant, connect(new_tenant, ["read"])


# One run


def test_a_stream_begins_with_the_run_as_it_is(api):
    run_id = sent()
    with stream(api, of(run_id)) as messages:
        first = next(messages)
    assert first.data == {
        "id": run_id, "event": "test.watched", "queue": NOBODY, "state": "pending", "isClosed": False, "attempt": 0,
        "progress": None, "metadata": {},
    }  # fmt: skip


def test_it_tells_each_change_of_the_state_and_ends_with_the_run(api):
    run_id = sent()
    with stream(api, of(run_id)) as messages:
        until_state(messages, run_id, "pending")
        claim_here(run_id)
        (running,) = until_state(messages, run_id, "running")
        with autocommit() as connection:
            connection.execute("UPDATE cgk.runs SET state = 'retrying' WHERE id = %s", [run_id])
        until_state(messages, run_id, "retrying")
        cancel_run(run_id)
        ended = list(messages)
    assert running.data["attempt"] == 1
    assert [(one.state, one.data["isClosed"]) for one in ended if one.kind == "message"] == [("cancelled", True)]


def test_it_tells_progress_and_metadata(api):
    run = claim_here(sent())
    kept = progress.KeptReport(run.id, run.tenant_id, run.attempt)
    with stream(api, of(run.id)) as messages:
        next(messages)
        kept.report.show(1, 4, "page 1")
        kept.report["file"] = {"rows": 3}
        told = until(messages, lambda one: one.data["progress"])[-1].data
        kept.report.show(3, None, "page 3")
        later = until(messages, lambda one: one.data["progress"]["done"] == 3)[-1].data
    assert (told["progress"]["total"], told["progress"]["message"], told["metadata"]) == (
        4,
        "page 1",
        {"file": {"rows": 3}},
    )
    assert (later["progress"]["total"], later["progress"]["message"]) == (None, "page 3")


def test_of_a_run_that_has_ended_the_end_is_told(api):
    run_id = sent()
    cancel_run(run_id)
    with stream(api, of(run_id)) as messages:
        assert [one.state for one in messages] == ["cancelled"]


def test_who_comes_back_after_the_end_was_told_is_told_to_come_no_more(api):
    run_id = sent()
    cancel_run(run_id)
    with stream(api, of(run_id)) as messages:
        last = next(messages).id
    answer = api.get(of(run_id), headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.content) == (204, b"")


def test_who_comes_back_is_told_what_has_changed_meanwhile(api):
    run_id = sent()
    with stream(api, of(run_id)) as messages:
        last = next(messages).id
    cancel_run(run_id)
    with stream(api, of(run_id), last_id=last) as messages:
        assert [one.state for one in messages] == ["cancelled"]


def test_who_comes_back_is_not_told_again_what_has_not_changed(api):
    run_id = sent()
    with stream(api, of(run_id)) as messages:
        last = next(messages).id
    with stream(api, of(run_id), last_id=last) as messages:
        claim_here(run_id)
        told = runs_in(until_state(messages, run_id, "running"))
    assert told == {run_id: ["running"]}


def test_an_id_that_was_never_told_is_as_good_as_none(api):
    run_id = sent()
    with stream(api, of(run_id), last_id="what is this", seconds=0) as messages:
        assert [one.state for one in messages if one.kind == "message"] == ["pending"]


@pytest.mark.parametrize("run_id", ["01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11", "no-id"])
def test_a_run_that_there_is_not_has_no_stream(api, run_id):
    refused = api.get(of(run_id))
    assert (refused.status_code, refused.json()["code"]) == (404, "RECORD_NOT_FOUND")


def test_a_run_of_another_tenant_has_no_stream(api):
    assert api.get(of(sent("globex"))).status_code == 404


# All runs of a tenant


def test_a_tenants_stream_tells_what_is_sent_starts_and_ends(mine):
    tenant, api = mine
    with stream(api, "/v1/stream") as messages:
        run_id = sent(tenant)
        told = until_state(messages, run_id, "pending")
        claim_here(run_id)
        told += until_state(messages, run_id, "running")
        with autocommit() as connection:
            connection.execute("UPDATE cgk.runs SET state = 'held' WHERE id = %s", [run_id])
        told += until_state(messages, run_id, "held")
        cancel_run(run_id)
        told += until_state(messages, run_id, "cancelled")
    assert runs_in(told) == {run_id: ["pending", "running", "held", "cancelled"]}


def test_it_begins_with_what_is_on(mine):
    tenant, api = mine
    run_id = claim_here(sent(tenant)).id
    with stream(api, "/v1/stream", seconds=0) as messages:
        assert runs_in(messages) == {run_id: ["running"]}


def test_it_tells_what_its_runs_tell_of_themselves(mine):
    tenant, api = mine
    run = claim_here(sent(tenant))
    kept = progress.KeptReport(run.id, run.tenant_id, run.attempt)
    with stream(api, "/v1/stream") as messages:
        until_state(messages, run.id, "running")
        kept.report.show(2, 4, "half")
        assert until(messages, lambda one: one.data["progress"])[-1].data["progress"]["done"] == 2


def test_it_tells_nothing_of_other_tenants(mine):
    tenant, api = mine
    with stream(api, "/v1/stream") as messages:
        other = claim_here(sent("globex")).id
        cancel_run(sent("globex"))
        run_id = claim_here(sent(tenant)).id
        told = runs_in(until_state(messages, run_id, "running"))
    assert (other in told, set(told)) == (False, {run_id})


@pytest.mark.parametrize(("asked", "told"), [({"queue": "a"}, {0, 1}), ({"event": "test.watched"}, {0, 2}), (
    {"queue": "b", "event": "test.watchedToo"}, {3})])  # fmt: skip
def test_it_tells_of_the_queue_and_the_event_that_it_was_asked_for(mine, asked, told):
    tenant, api = mine
    runs = [sent(tenant, event, queue) for queue, event in
            [("a", Watched), ("a", Other), ("b", Watched), ("b", Other)]]  # fmt: skip
    for run_id in runs:
        claim_here(run_id)
    with stream(api, "/v1/stream", seconds=0, **asked) as messages:
        assert set(runs_in(messages)) == {runs[place] for place in told}


def test_of_a_run_that_is_open_again_under_its_old_id_the_open_one_is_told(mine):
    """As a link of a chain is that was replayed."""
    tenant, api = mine
    run_id = sent(tenant)
    with autocommit() as connection:
        row = connection.execute("SELECT r.* FROM cgk.runs r WHERE id = %s", [run_id])
        columns, values = [column.name for column in row.description], row.fetchone()
        cancel_run(run_id)
        places = ", ".join(["%s"] * len(columns))
        connection.execute(f"INSERT INTO cgk.runs ({', '.join(columns)}) VALUES ({places})", values)
    with stream(api, "/v1/stream", seconds=0) as messages:
        assert runs_in(messages) == {run_id: ["pending"]}


def test_a_run_that_began_and_ended_between_two_looks_is_told(mine):
    tenant, api = mine
    with stream(api, "/v1/stream") as messages:
        run_id = sent(tenant)
        cancel_run(run_id)
        assert until_state(messages, run_id, "cancelled")[-1].data["isClosed"]


def test_who_comes_back_to_a_tenants_stream_is_told_what_has_ended_and_begun_meanwhile(mine):
    tenant, api = mine
    with stream(api, "/v1/stream") as messages:
        ending = claim_here(sent(tenant)).id
        last = until_state(messages, ending, "running")[-1].id
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'retrying' WHERE id = %s", [ending])
    cancel_run(ending)
    begun, waiting = claim_here(sent(tenant)).id, sent(tenant)
    long_ago(ending)
    with stream(api, "/v1/stream", last_id=minus_a_minute(last), seconds=0) as messages:
        assert runs_in(messages) == {ending: ["cancelled"], begun: ["running"], waiting: ["pending"]}


def long_ago(run_id):
    """Its end would not be told to somebody new."""
    with autocommit() as connection:
        connection.execute(
            "UPDATE cgk.run_history SET closed_at = closed_at - interval '30 seconds' WHERE id = %s", [run_id]
        )


def minus_a_minute(last_id):
    return str(int(last_id) - 60_000_000)


def test_what_ended_long_before_is_not_told_to_somebody_new(mine):
    tenant, api = mine
    run_id = sent(tenant)
    cancel_run(run_id)
    long_ago(run_id)
    with stream(api, "/v1/stream", seconds=0) as messages:
        assert runs_in(messages) == {}


def test_while_nothing_happens_the_id_of_a_tenants_stream_goes_on(mine, setting):
    """Else who comes back after a quiet hour would have to list the runs anew."""
    _tenant, api = mine
    setting(CGK_GATEWAY_HEARTBEAT_SECONDS="0.3")
    with stream(api, "/v1/stream") as messages:
        first, second = next(messages), next(messages)
    assert (first.kind, int(first.id) < int(second.id)) == ("comment", True)


@pytest.mark.parametrize("last_id", ["x", "-1", "٣", "9" * 30, "1000000"])
def test_who_comes_back_too_late_or_with_an_id_that_cannot_be_read_is_told_to_list_the_runs_anew(mine, last_id):
    _tenant, api = mine
    with stream(api, "/v1/stream", last_id=last_id.encode(), seconds=0) as messages:
        assert next(messages).kind == "reset"


def test_an_id_of_the_future_is_that_of_now(mine):
    tenant, api = mine
    later = watching.cursor_of(database_now().replace(year=2200))
    with stream(api, "/v1/stream", last_id=later) as messages:
        run_id = sent(tenant)
        told = until_state(messages, run_id, "pending")
    assert "reset" not in {one.kind for one in told}


def test_where_more_has_ended_than_can_be_told_the_stream_says_so(mine, monkeypatch):
    tenant, api = mine
    monkeypatch.setattr(watched_runs, "MOST_ENDED", 3)
    with stream(api, "/v1/stream") as messages:
        for _ in range(5):
            cancel_run(sent(tenant))
        assert until(messages, lambda one: one.kind == "reset")[-1].kind == "reset"


def test_the_runs_of_a_suspended_tenant_can_be_watched(mine):
    tenant, api = mine
    run_id = sent(tenant)
    suspend_tenant(tenant, by="billing")
    try:
        with stream(api, of(run_id), seconds=0) as messages:
            assert next(messages).data["id"] == run_id
    finally:
        resume_tenant(tenant)


# How long, and how many


def test_a_stream_ends_when_it_was_asked_to(api):
    with stream(api, of(sent()), seconds=0.3) as messages:
        assert [one.kind for one in messages if one.kind != "comment"] == ["message"]


def test_a_stream_ends_after_the_longest_time_that_one_may_last(api, setting):
    setting(CGK_GATEWAY_STREAM_SECONDS="0.3")
    with stream(api, of(sent())) as messages:
        assert [one.kind for one in messages if one.kind != "comment"] == ["message"]


@pytest.mark.parametrize("wait", ["-1", "3601", "x", "nan"])
def test_a_time_that_cannot_be_waited_is_refused(api, wait):
    assert api.get(of(sent()), params={"wait": wait}).status_code == 400


@pytest.mark.parametrize("path", [of("01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11"), "/v1/stream"])
def test_a_parameter_that_there_is_not_is_refused(api, path):
    assert api.get(path, params={"tenant": "globex"}).status_code == 400


def test_a_stream_with_nothing_to_tell_sends_comments(api, setting):
    setting(CGK_GATEWAY_HEARTBEAT_SECONDS="0.05")
    with stream(api, of(sent())) as messages:
        assert [next(messages).kind for _ in range(4)] == ["message", "comment", "comment", "comment"]


def test_more_streams_of_a_tenant_than_there_may_be_are_refused(mine, connect, setting):
    tenant, api = mine
    setting(CGK_GATEWAY_STREAMS_AT_ONCE="1")
    run_id = sent(tenant)
    with stream(api, of(run_id)) as messages:
        next(messages)
        refused = api.get(of(run_id))
        with stream(connect("globex", ["read"]), of(sent("globex")), seconds=0) as others:
            next(others)
    assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_REQUESTS")
    wait_until(lambda: api.get(of(run_id), params={"wait": 0}).status_code == 200, what="the place is free")


def test_streams_are_not_counted_among_the_requests_that_may_be_on(mine, setting):
    tenant, api = mine
    setting(CGK_GATEWAY_REQUESTS_AT_ONCE="1")
    with stream(api, "/v1/stream") as messages:
        run_id = sent(tenant)
        until_state(messages, run_id, "pending")
        assert api.get(f"/v1/runs/{run_id}").status_code == 200


def test_head_is_answered_without_a_stream(api):
    answer = api.head(of(sent()))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")


def test_no_header_keeps_messages_back_and_no_address_goes_on_to_other_pages(api):
    with api.stream("GET", of(sent()), params={"wait": 0}) as answer:
        told = {name: answer.headers[name] for name in ("Cache-Control", "X-Accel-Buffering", "Referrer-Policy")}
    assert told == {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Referrer-Policy": "no-referrer"}


# How the gateway looks


class Looks:
    """How often the gateway has looked."""

    def __init__(self):
        self.runs = self.tenants = 0
        self.last = time.monotonic()

    def __call__(self, statement, _seconds, _error):
        if statement.label in {"streams.runs_by_id", "streams.runs_of_tenants"}:
            self.last = time.monotonic()
            self.runs += statement.name == "runs_by_id"
            self.tenants += statement.name == "runs_of_tenants"


@pytest.fixture
def looks():
    counted = Looks()
    door.observe(counted)
    yield counted
    door.forget_observer(counted)


def test_nobody_looks_where_nobody_watches(mine, looks):
    tenant, api = mine
    with stream(api, of(sent(tenant))), stream(api, "/v1/stream"):
        wait_until(lambda: looks.runs > 2 and looks.tenants > 2, what="the gateway looks")
    wait_until(lambda: time.monotonic() - looks.last > 4 * watching.EVERY_SECONDS, what="the gateway looks no more")


def test_one_look_serves_a_hundred_streams(database, looks, setting):
    """Each is told of its own run's end; opened by a hundred clients, and ended at once."""
    setting(CGK_GATEWAY_REQUESTS_PER_MINUTE="0")
    runs = [handle.id for handle in send_jobs([Watched(tenant_id="acme")] * 100)]
    key, ended, opened = secret_of(), {}, threading.Semaphore(0)

    def watch(client, run_id):
        with stream(client, of(run_id)) as messages:
            next(messages)
            opened.release()
            ended[run_id] = until_state(messages, run_id, "cancelled")[-1]

    with served(application()) as url, httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, limits=httpx.Limits(max_connections=200)
    ) as client:  # fmt: skip
        threads = [threading.Thread(target=watch, args=(client, run_id)) for run_id in runs]
        for thread in threads:
            thread.start()
        for _ in runs:
            assert opened.acquire(timeout=60 * busyness())
        looks.runs, begun = 0, time.monotonic()
        for run_id in runs:
            cancel_run(run_id)
        for thread in threads:
            thread.join(60 * busyness())
        took = time.monotonic() - begun
    assert ended.keys() == set(runs)
    assert looks.runs <= took / watching.EVERY_SECONDS + 2


def test_what_changes_while_postgresql_is_away_is_told_when_it_is_back(mine):
    tenant, api = mine
    run_id = sent(tenant)
    with ExitStack() as open_streams:
        one = open_streams.enter_context(stream(api, of(run_id)))
        all_runs = open_streams.enter_context(stream(api, "/v1/stream"))
        next(one)
        next(all_runs)
        retry_while_unavailable(end_other_connections, 5)
        retry_while_unavailable(lambda: cancel_run(run_id), 5)
        assert until_state(one, run_id, "cancelled")
        assert until_state(all_runs, run_id, "cancelled")


def end_other_connections():
    with autocommit() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


# Pages of other origins

SHOP = "https://shop.example.com"


@pytest.fixture
def with_origins(database, setting):
    """A client of a gateway that pages of a shop may read."""
    setting(CGK_GATEWAY_ORIGINS=f"{SHOP}, http://127.0.0.1:8000")
    with served(application()) as url, httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {secret_of()}"}, timeout=60
    ) as client:  # fmt: skip
        yield client


@pytest.mark.parametrize(("origin", "allowed"), [(SHOP, SHOP), ("https://evil.example.com", None)])
def test_pages_of_the_origins_that_are_set_may_read_streams(with_origins, origin, allowed):
    answer = with_origins.get(of(sent()), params={"wait": 0}, headers={"Origin": origin})
    assert (answer.status_code, answer.headers.get("Access-Control-Allow-Origin")) == (200, allowed)


@pytest.mark.parametrize(("origin", "status"), [(SHOP, 200), ("https://evil.example.com", 400)])
def test_a_browser_that_asks_whether_it_may_send_a_header_is_answered(with_origins, origin, status):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = with_origins.options(of(sent()), headers=asked)
    assert (answer.status_code, "Access-Control-Allow-Credentials" in answer.headers) == (status, False)


def test_other_endpoints_are_for_no_page(with_origins):
    answer = with_origins.get(f"/v1/runs/{sent()}", headers={"Origin": SHOP})
    assert (answer.status_code, "Access-Control-Allow-Origin" in answer.headers) == (200, False)


def test_options_that_no_browser_asks_are_refused(with_origins):
    refused = with_origins.options(of(sent()))
    assert (refused.status_code, refused.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


def test_without_origins_no_page_may_read_streams(api):
    answer = api.get(of(sent()), params={"wait": 0}, headers={"Origin": SHOP})
    assert "Access-Control-Allow-Origin" not in answer.headers
