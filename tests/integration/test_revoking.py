"""`revoke` means what it means in Celery, and no restart forgets it."""

from uuid import uuid4

import pytest
from celery import chain, chord, group
from celery.canvas import StampingVisitor
from celery.exceptions import Reject, TaskRevokedError

from cgk_tasks import app, get_job_status
from cgk_tasks.celery_tasks import revocations
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.tenancy import platform_context, tenant_context
from tests.integration import revoked_tasks as tasks
from tests.support.waiting import get, wait_closed, wait_until

pytestmark = pytest.mark.usefixtures("acme")


class Stamped(StampingVisitor):
    def __init__(self, value):
        self.value = value

    def on_signature(self, sig, **headers):
        return {"of": self.value}


def stamped(signature, value):
    signature.stamp(visitor=Stamped(value))
    return signature


def wait_running(folder):
    wait_until((folder / "runs").exists, what="the task runs")


def assert_revoked(result):
    with pytest.raises(TaskRevokedError):
        result.get(timeout=20, interval=0.02)
    assert result.status == "REVOKED"


def test_a_running_task_that_is_revoked_comes_to_its_end(tmp_path):
    result = tasks.runs_until_told.delay(str(tmp_path))
    wait_running(tmp_path)
    result.revoke()
    (tmp_path / "end").touch()
    assert result.get(timeout=20) == "ended"
    assert get_job_status(result.id).cancel_requested_at is None


def test_a_running_task_that_is_revoked_is_not_tried_again(tmp_path):
    result = tasks.retries_when_told.delay(str(tmp_path))
    wait_running(tmp_path)
    result.revoke()
    (tmp_path / "end").touch()
    assert_revoked(result)
    status = get_job_status(result.id)
    assert (status.state, status.attempt) == ("cancelled", 1)


def test_a_running_task_is_interrupted_where_terminate_says_so(tmp_path):
    result = tasks.runs_until_told.delay(str(tmp_path))
    wait_running(tmp_path)
    result.revoke()
    result.revoke(terminate=True)
    assert_revoked(result)


def test_an_id_that_is_revoked_before_it_is_sent_is_cancelled_when_it_comes():
    task_id = str(uuid4())
    app.control.revoke(task_id)
    assert app.AsyncResult(task_id).status == "REVOKED"
    assert_revoked(tasks.add.apply_async((1, 2), task_id=task_id))
    assert get_job_status(task_id).state == "cancelled"


def test_an_id_that_is_sent_while_it_is_revoked_is_cancelled(monkeypatch):
    task_id, note = str(uuid4()), revocations.note_id

    def note_once_it_is_sent(run_id):
        """As of a sender that has looked for the note before it was there."""
        tasks.add.apply_async((1, 2), task_id=task_id, countdown=3600)
        note(run_id)

    monkeypatch.setattr(revocations, "note_id", note_once_it_is_sent)
    app.control.revoke(task_id)
    assert get_job_status(task_id).state == "cancelled"


def test_a_later_link_of_a_chain_that_is_revoked_is_cancelled_when_its_turn_comes(tmp_path):
    last = chain(tasks.runs_until_told.si(str(tmp_path)), tasks.add.si(1, 2)).delay()
    wait_running(tmp_path)
    last.revoke()
    (tmp_path / "end").touch()
    assert_revoked(last)
    assert last.parent.get(timeout=20) == "ended"
    assert wait_closed(run_id_of(last.id)).state == "cancelled"


def test_a_member_of_a_group_that_is_revoked_before_it_is_sent_is_cancelled_alone():
    first, second = tasks.add.s(1, 1), tasks.add.s(2, 2)
    app.control.revoke(first.freeze().id)
    result = group(first, second).delay()
    assert_revoked(result.results[0])
    assert result.results[1].get(timeout=20) == 4


def test_a_chord_fails_with_a_member_that_is_revoked_before_it_is_sent():
    first = tasks.add.s(1, 1)
    app.control.revoke(first.freeze().id)
    body = chord([first, tasks.add.s(2, 2)], tasks.add.si(3, 3)).delay()
    with pytest.raises(TaskRevokedError):
        body.get(timeout=20)
    wait_until(body.failed, what="the body has failed")


@pytest.fixture(params=["revoke", "terminate"])
def revoked_by_another(request, worker):
    """An id that another tenant has revoked, of which the worker has heard."""
    task_id = str(uuid4())
    with platform_context(), tenant_context("globex"):
        getattr(app.control, request.param)(task_id)
    wait_until(lambda: task_id in remembered(worker), what="the worker remembers it")
    return task_id


def remembered(worker):
    """The ids that a worker's process remembers as revoked."""
    replies = app.control.broadcast("revoked", destination=[worker.name], reply=True, timeout=5, limit=1)
    return replies[0][worker.name] if replies else []


def test_another_tenants_revocation_of_an_id_says_nothing_of_ours(revoked_by_another):
    assert get(tasks.add.apply_async((1, 2), task_id=revoked_by_another)) == 3


def test_another_tenants_revocation_does_not_end_the_process_of_ours(tmp_path, worker):
    task_id = str(uuid4())
    result = tasks.runs_until_told.apply_async((str(tmp_path),), task_id=task_id)
    wait_running(tmp_path)
    # As a worker hears it that is slower than our send.
    arguments = {"task_id": [task_id], "terminate": True, "signal": "SIGKILL"}
    wait_until(
        lambda: app.control.broadcast("revoke", arguments, [worker.name], reply=True, timeout=5, limit=1),
        what="the worker replies",
    )
    (tmp_path / "end").touch()
    assert get(result) == "ended"
    assert get_job_status(task_id).deaths == 0


def test_what_waits_with_a_stamp_and_what_comes_with_it_is_revoked():
    value, other = uuid4().hex, uuid4().hex
    waits = stamped(tasks.add.si(1, 1), value).apply_async(countdown=3600)
    stays = stamped(tasks.add.si(2, 2), other).apply_async(countdown=1)
    app.control.revoke_by_stamped_headers({"of": [value]})
    assert_revoked(waits)
    assert_revoked(stamped(tasks.add.si(1, 1), value).apply_async())
    assert stays.get(timeout=20) == 4


def test_a_task_that_is_rejected_with_requeue_comes_again_and_is_told(worker):
    result = tasks.rejects_first.delay()
    assert result.get(timeout=20) == 0
    assert get_job_status(result.id).attempt == 1


def test_a_task_that_is_rejected_without_requeue_fails_at_once():
    result = tasks.rejects.delay()
    with pytest.raises(Reject):
        result.get(timeout=20)
    status = get_job_status(result.id)
    assert (result.status, status.attempt) == ("FAILURE", 1)
