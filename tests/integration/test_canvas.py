"""Chains, groups and chords of durable runs."""

import threading

import pytest
from celery import chain, chord, group
from celery.result import AsyncResult, GroupResult

from cgk_tasks import get_job_status, send_job
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import tenant_context
from tests.integration import canvas_tasks as tasks
from tests.integration.canvas_tasks import add, collect, total
from tests.support.waiting import get, wait_until

pytestmark = pytest.mark.usefixtures("acme")


@pytest.fixture(scope="module")
def worker(start_worker):
    # What follows a task that opts out of the record travels in its message.
    return start_worker(["tests.integration.canvas_tasks"], CGK_EXTERNAL_EVENTS=collect.name)


# ---- links and chains -----------------------------------------------------------------------------------------------


def test_a_link_gets_the_result():
    linked = add.s(10)
    linked.freeze()
    add.apply_async((1, 2), link=linked)
    assert get(AsyncResult(linked.id)) == 13


def test_every_link_is_called():
    links = [add.s(10), group(add.s(20), add.s(30)), add.si(1, 1)]
    for link in links:
        link.freeze()
    add.apply_async((1, 2), link=links)
    ids = [links[0].id, *(task.id for task in links[1].tasks), links[2].id]
    assert [get(AsyncResult(task_id)) for task_id in ids] == [13, 23, 33, 2]


def test_a_chain_hands_each_result_on():
    assert get((add.s(1, 2) | add.s(3) | add.s(4)).delay()) == 10


def test_every_link_of_a_chain_can_be_followed_back():
    result = (add.s(1, 2) | add.s(3) | add.s(4)).delay()
    assert [get(result), get(result.parent), get(result.parent.parent)] == [10, 6, 3]


def test_a_link_of_a_chain_names_its_parent_and_its_root():
    result = (add.s(1, 2) | tasks.request_of.s()).delay()
    told = get(result)
    assert (told["id"], told["parent_id"], told["root_id"]) == (result.id, result.parent.id, result.parent.id)


def test_a_retry_inside_a_chain_goes_on_with_the_chain():
    assert get((add.s(0, 2) | tasks.retry_until.s(2, 5) | add.s(1)).delay()) == 8


def test_a_countdown_inside_a_chain_is_kept_in_the_record():
    result = (add.s(1, 2) | add.s(3).set(countdown=0.3) | add.s(4)).delay()
    assert get(result) == 10


def test_a_chain_carries_its_tenant_into_every_link():
    with tenant_context_of("globex"):
        result = (tasks.whose.s() | tasks.whose.s() | group(tasks.whose.s(), tasks.whose.s()) | collect.s()).delay()
        assert get(result) == [["globex"] * 3, ["globex"] * 3]


def test_a_replaced_task_in_a_chain_hands_its_replacements_result_on():
    assert get((add.s(0, 1) | tasks.replaced_by_chain.s() | add.s(1000)).delay()) == 1111


# ---- groups ---------------------------------------------------------------------------------------------------------


def test_a_group_of_a_slow_generator_is_sent_as_it_comes(tmp_path):
    """Celery looks one member ahead: the third is not made before the first one has run."""
    assert get(group(made_slowly(tmp_path))()) == [0, 1, 2, 3]


def test_a_chord_whose_header_is_a_slow_generator_is_sent_as_it_comes(tmp_path):
    assert get(chord(made_slowly(tmp_path), collect.s())()) == [0, 1, 2, 3]


def made_slowly(folder):
    for number in range(4):
        threading.Event().wait(0.1)
        if number == 2:
            wait_until((folder / "0").exists, 20, "the first member has run")
        yield tasks.note.si(str(folder / str(number)), number)


def test_a_generator_is_asked_once_for_each_member():
    given = []
    made = (given.append(number) or add.s(number, 1) for number in range(3))
    assert get(chord(made)(total.s())) == 6
    assert given == [0, 1, 2]


def test_a_groups_results_are_in_its_members_order():
    assert get(group(add.s(number, number) for number in range(20)).delay()) == list(range(0, 40, 2))


def test_a_group_is_accepted_all_or_none():
    before = runs_on_record()
    with pytest.raises(TypeError):
        group(add.s(1, 1), add.s(2, 2), add.s(1, 2, 3)).delay()
    assert runs_on_record() == before


def test_an_empty_group_has_no_results():
    assert get(group().delay()) == []


def test_a_saved_group_result_can_be_restored():
    result = group(add.s(1, 1), add.s(2, 2)).delay()
    result.save()
    assert get(GroupResult.restore(result.id, app=tasks.app)) == [2, 4]
    result.delete()
    assert GroupResult.restore(result.id, app=tasks.app) is None


def test_a_group_of_chains():
    assert get(group(add.s(number, 1) | add.s(1) for number in range(3)).delay()) == [2, 3, 4]


# ---- chords ---------------------------------------------------------------------------------------------------------


def test_a_chords_body_gets_the_results_in_the_members_order():
    assert get(chord(add.s(number, number) for number in range(20))(collect.s())) == list(range(0, 40, 2))


def test_a_chord_with_one_member():
    assert get(chord([add.s(1, 1)])(collect.s())) == [2]


def test_a_chord_without_members_calls_its_body_with_nothing():
    assert get(chord([])(collect.s())) == []


def test_a_chord_leaves_nothing_behind():
    result = chord([add.s(1, 1), add.s(2, 2)])(collect.s())
    get(result)
    with autocommit() as connection:
        assert connection.execute("SELECT id FROM cgk.groups WHERE id = %s", (result.parent.id,)).fetchall() == []


def test_the_body_knows_the_last_member_as_its_parent():
    result = chord([add.s(1, 1)])(tasks.request_of.s())
    assert get(result)["parent_id"] == result.parent.results[0].id


def test_a_member_can_add_another_one_to_its_chord():
    assert sorted(get(chord([tasks.grows_its_chord.s(1), add.s(1, 4)])(collect.s()))) == [1, 2, 5]


def test_a_member_that_is_replaced_counts_with_its_replacements_result():
    header = [tasks.replaced_by_chain.s(1), tasks.replaced_by_group.s(1), add.s(1, 1)]
    assert get(chord(header)(collect.s())) == [111, [2, 3], 2]


def test_a_member_that_is_retried_counts_once():
    assert get(chord([tasks.retry_until.s(2, 5), add.s(1, 1)])(collect.s())) == [5, 2]


def test_an_ignored_member_counts_with_null():
    assert get(chord([tasks.ignored.s(), add.s(1, 1)])(collect.s())) == [None, 2]


def test_members_that_opt_out_of_the_record_count_too():
    started = get(tasks.start.delay(chord([tasks.fleeting.s(1), tasks.fleeting.s(2)], collect.s())))
    assert get(AsyncResult(started)) == [[1, "acme"], [2, "acme"]]


def test_a_durable_task_follows_one_that_opts_out():
    started = get(tasks.start.delay(tasks.fleeting.s(1) | collect.s()))
    assert get(AsyncResult(started)) == [1, "acme"]


NESTED = {
    "a group and a task become a chord": (lambda: group(add.s(1, 1), add.s(2, 2)) | collect.s(), [2, 4]),
    "a chain into a group": (lambda: add.s(1, 1) | group(add.s(1), add.s(2)), [3, 4]),
    "a chain through a group": (lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(1), 8),
    "a chain in a header": (lambda: chord([add.s(1, 1) | add.s(2), add.s(5, 5)], collect.s()), [4, 10]),
    "a chain that ends in a group in a header": (
        lambda: chord([add.s(1, 1) | group(add.s(2), add.s(3)), add.s(5, 5)], collect.s()),
        [[4, 5], 10],
    ),
    "a chord in a header": (
        lambda: chord([chord([add.s(1, 1), add.s(2, 2)], total.s()), add.s(5, 5)], collect.s()),
        [6, 10],
    ),
    "a chord in a chain": (
        lambda: chain(add.s(1, 1), chord([add.s(1), add.s(2)], total.s()), add.s(1)),
        8,
    ),
    "a chord after a chord": (
        lambda: chain(group(add.s(1, 1), add.s(2, 2)), group(total.s(), total.s()), total.s()),
        12,
    ),
    "a body that is a chain": (lambda: chord([add.s(1, 1), add.s(2, 2)], total.s() | add.s(1)), 7),
    "a body that is a group": (
        lambda: chord([add.s(1, 1), add.s(2, 2)], group(total.s(), collect.s())),
        [6, [2, 4]],
    ),
    "a body that is a chord": (
        lambda: chord([add.s(1, 1), add.s(2, 2)], chord([total.s(), total.s()], collect.s())),
        [6, 6],
    ),
    "groups in a group": (lambda: group(group(add.s(1, 1)), group(add.s(2, 2), add.s(3, 3))) | total.s(), 12),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested(name):
    signature, expected = NESTED[name]
    assert get(signature().delay()) == expected


def test_a_chord_carries_its_tenant_into_members_and_body():
    with tenant_context_of("globex"):
        result = chord([tasks.whose.s(), tasks.whose.s() | tasks.whose.s()])(group(tasks.whose.si(), collect.s()))
        assert get(result) == [["globex"], [["globex"], ["globex", "globex"]]]


# ---- events ---------------------------------------------------------------------------------------------------------


def test_an_event_in_a_chain_hands_its_jobs_result_on():
    assert get((tasks.one_job.s(tenant_id="acme", number=3) | add.s(1)).delay()) == 4


def test_an_event_follows_a_task_with_fields_of_its_own():
    assert get((add.s(1, 1) | tasks.one_job.si(tenant_id="acme", number=3)).delay()) == 3


def test_an_event_with_several_jobs_hands_all_their_results_on_when_the_last_one_has_ended():
    result = (tasks.several_jobs.s(tenant_id="acme", number=3) | collect.s()).delay()
    assert get(result) == {"canvas-first": 3, "canvas-second": 30}


def test_events_are_members_of_a_chord_like_any_task():
    header = [
        tasks.one_job.s(tenant_id="acme", number=3),
        tasks.several_jobs.s(tenant_id="acme", number=4),
        add.s(1, 1),
    ]
    assert get(chord(header)(collect.s())) == [3, {"canvas-first": 4, "canvas-second": 40}, 2]


def test_a_job_that_uses_its_database_hands_its_result_on():
    result = chord([tasks.writes.s(tenant_id="acme", order_id="o-1"), add.s(1, 1)])(collect.s())
    assert get(result) == ["o-1", 2]


def test_a_link_on_an_event():
    linked = add.s(1)
    linked.freeze()
    tasks.one_job.apply_async(kwargs={"tenant_id": "acme", "number": 7}, link=linked)
    assert get(AsyncResult(linked.id)) == 8


def test_a_canvas_has_no_say_in_what_send_job_does():
    assert get(AsyncResult(send_job("canvas.one", {"tenantId": "acme", "number": 1}).id)) == 1


def test_the_runs_of_a_canvas_are_runs_like_any_other():
    result = (add.s(1, 2) | add.s(3)).delay()
    get(result)
    status = get_job_status(result.id)
    assert (status.event, status.tenant_id, status.payload) == (
        add.name,
        "acme",
        {"args": [3, 3], "kwargs": {}},
    )


def tenant_context_of(tenant):
    """A tenant's context in place of this module's."""
    from contextlib import ExitStack

    from cgk_tasks.tenancy import platform_context

    stack = ExitStack()
    stack.enter_context(platform_context())
    stack.enter_context(tenant_context(tenant))
    return stack


def runs_on_record():
    with autocommit() as connection:
        return connection.execute("SELECT (SELECT count(*) FROM cgk.runs) + count(*) FROM cgk.run_history").fetchone()
