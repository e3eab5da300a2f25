"""What is enqueued with Django's Tasks framework is a run on record: its tenant, its options, its transaction."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import (
    SendItem,
    app,
    cancel_run,
    get_run,
    platform_context,
    reset_job_client,
    send_job,
    send_jobs,
    set_tenant_limits,
    tenant_context,
)
from cgk_tasks.broker.envelope import NOTHING_WAITS
from cgk_tasks.broker.publisher import get_publisher
from cgk_tasks.errors import (
    ConfigurationError,
    PayloadTooLargeError,
    QuotaExceededError,
    StoreError,
    TenantContextError,
    TenantMissingError,
    UnknownRunError,
    UnknownTenantError,
)
from cgk_tasks.runs.models import DEFAULT_PRIORITY

pytestmark = pytest.mark.usefixtures("tasks")


@pytest.fixture
def framework(tasks):
    """The Tasks framework that is installed, as a namespace."""
    from importlib import import_module

    from cgk_tasks.django.framework import HOME

    return import_module(HOME)


@pytest.fixture
def refusals(framework):
    """Its exceptions."""
    from importlib import import_module

    return import_module(f"{framework.__name__}.exceptions")


@pytest.fixture
def invalid_task(refusals):
    return getattr(refusals, "InvalidTask", None) or refusals.InvalidTaskError


def is_on_record(result):
    try:
        return bool(get_run(result.id))
    except UnknownRunError:
        return False


def queue_of_one():
    """A queue to which nobody listens, of a task's own."""
    return f"q-{uuid.uuid4()}"


def is_published(queue):
    return get_publisher().oldest_waiting(queue, DEFAULT_PRIORITY) is not NOTHING_WAITS


def any_queue(task, queue):
    """The task in a queue that the settings need not name."""
    from django.test import override_settings

    from tests.django_backend.settings import TASKS

    settings = {**TASKS, "default": {**TASKS["default"], "QUEUES": []}}
    with override_settings(TASKS=settings):
        return task.using(queue_name=queue).enqueue()


class TestEnqueue:
    @pytest.mark.parametrize("name", ["nothing", "nothing_async"])
    def test_a_task_is_a_run_of_the_tenant_of_the_context(self, acme, tasks, framework, name):
        task = getattr(tasks, name)
        result = task.enqueue(1, two=[3, {"four": None}])
        run = get_run(result.id)
        assert (run.tenant_id, run.event, run.state) == ("acme", "django.task", "pending")
        assert (result.task, result.args, result.kwargs) == (task, [1], {"two": [3, {"four": None}]})
        assert (result.status, result.is_finished) == (framework.TaskResultStatus.READY, False)
        assert (result.started_at, result.finished_at, result.attempts, result.errors) == (None, None, 0, [])
        assert result.enqueued_at is not None

    def test_aenqueue_does_the_same(self, acme, tasks):
        result = asyncio.run(tasks.nothing.aenqueue(1, two=2))
        assert (get_run(result.id).tenant_id, result.args, result.kwargs) == ("acme", [1], {"two": 2})

    def test_what_has_not_ended_has_no_return_value(self, acme, tasks):
        with pytest.raises(ValueError, match="not finished"):
            tasks.nothing.enqueue().return_value  # noqa: B018

    def test_tuples_and_bytes_become_what_json_has(self, acme, tasks):
        result = tasks.nothing.enqueue((1, 2), name=b"ada")
        content = get_run(result.id).payload
        assert (content["args"], content["kwargs"]) == ([[1, 2]], {"name": "ada"})
        assert (result.args, result.kwargs) == ([[1, 2]], {"name": "ada"})

    @pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), object(), {1, 2}])
    def test_arguments_that_json_cannot_say_are_refused(self, acme, tasks, value):
        before = runs()
        with pytest.raises(TypeError, match="Unsupported type"):
            tasks.nothing.enqueue(value)
        assert runs() == before

    def test_arguments_that_are_too_large_are_refused(self, acme, tasks):
        with pytest.raises(PayloadTooLargeError):
            tasks.nothing.enqueue("x" * 2_000_000)

    def test_a_receiver_is_told_what_was_enqueued(self, acme, tasks, framework):
        from cgk_tasks.django import TasksBackend
        from cgk_tasks.django.framework import signals

        told = []

        def receive(sender, task_result, **_arguments):
            told.append((sender, task_result.id, is_on_record(task_result)))

        signals.task_enqueued.connect(receive)
        try:
            result = tasks.nothing.enqueue()
        finally:
            signals.task_enqueued.disconnect(receive)
        assert told == [(TasksBackend, result.id, True)]

    def test_what_is_enqueued_is_logged_as_django_does(self, acme, tasks, framework, caplog):
        with caplog.at_level("DEBUG", framework.__name__):
            result = tasks.nothing.enqueue()
        (line,) = [one.getMessage() for one in caplog.records if one.name == framework.__name__]
        assert result.id in line
        assert "enqueued" in line

    def test_the_dashboard_knows_the_task_and_hides_its_arguments(self, acme, tasks):
        from cgk_tasks.events.redaction import redacted, summary

        payload = get_run(tasks.nothing.enqueue("secret", name="ada").id).payload
        assert summary("django.task", payload) == {"task": "tests.django_backend.tasks.nothing"}
        shown = redacted("django.task", payload)
        assert (shown["args"], shown["kwargs"]) == ("[redacted]", "[redacted]")

    def test_the_dashboard_finds_it_by_its_path(self, acme, tasks):
        from cgk_tasks.dashboard.data.run_search import RunFilter, find_runs

        result = tasks.answer.enqueue()
        found = find_runs(RunFilter(text="tests.django_backend.tasks.answer")).runs
        assert result.id in {run.id for run in found}
        assert {run.summary["task"] for run in found} == {"tests.django_backend.tasks.answer"}


class TestValidation:
    def test_a_queue_that_the_settings_do_not_name_is_refused(self, tasks, invalid_task):
        with pytest.raises(invalid_task, match="unknown"):
            tasks.nothing.using(queue_name="unknown")

    def test_a_queue_that_they_do_not_name_any_more_is_refused_when_the_task_is_enqueued(
        self, acme, tasks, invalid_task
    ):
        from django.test import override_settings

        from tests.django_backend.settings import TASKS

        task = tasks.nothing.using(queue_name="emails")
        settings = {**TASKS, "default": {**TASKS["default"], "QUEUES": ["others"]}}
        with override_settings(TASKS=settings), pytest.raises(invalid_task):
            task.enqueue()

    @pytest.mark.parametrize("priority", [-101, 101, 3.1])
    def test_a_priority_out_of_range_is_refused(self, tasks, invalid_task, priority):
        with pytest.raises(invalid_task, match="priority"):
            tasks.nothing.using(priority=priority)

    def test_a_time_without_a_zone_is_refused(self, tasks, invalid_task):
        with pytest.raises(invalid_task, match="aware"):
            tasks.nothing.using(run_after=datetime(2030, 1, 1))  # noqa: DTZ001 - that is what is refused

    def test_a_function_in_a_function_is_refused(self, tasks, invalid_task):
        def inner(): ...

        with pytest.raises(invalid_task, match="module level"):
            tasks.task(inner)

    def test_a_task_that_takes_no_context_is_refused_where_it_says_it_does(self, tasks, invalid_task):
        with pytest.raises(invalid_task, match="context"):
            tasks.task(takes_context=True)(tasks.answer.func)


class TestOptionsOfATask:
    @pytest.mark.parametrize(
        ("django", "ours"), [(0, 5), (1, 6), (25, 6), (26, 7), (100, 9), (-1, 4), (-20, 4), (-21, 3), (-100, 0)]
    )
    def test_a_priority_is_above_or_below_the_usual_one_as_in_django(self, acme, tasks, django, ours):
        assert get_run(tasks.nothing.using(priority=django).enqueue().id).priority == ours

    def test_a_queue_is_the_runs_queue_and_djangos_default_the_usual_one(self, acme, tasks):
        from cgk_tasks.config import get_settings

        usual, other = tasks.nothing.enqueue(), tasks.nothing.using(queue_name="emails").enqueue()
        assert (get_run(usual.id).queue, get_run(other.id).queue) == (get_settings().default_queue, "emails")

    def test_run_after_is_when_the_run_is_due(self, acme, tasks, framework):
        later = datetime.now(UTC) + timedelta(days=400)
        result = tasks.nothing.using(run_after=later).enqueue()
        run = get_run(result.id)
        assert (run.state, run.run_at, result.status) == ("scheduled", later, framework.TaskResultStatus.READY)

    def test_a_result_has_the_task_as_it_was_enqueued(self, acme, tasks):
        task = tasks.nothing.using(priority=7, queue_name="emails", run_after=datetime.now(UTC) + timedelta(days=1))
        assert tasks.nothing.get_result(task.enqueue().id).task == task

    def test_a_result_can_be_read_when_the_settings_have_lost_its_queue(self, acme, tasks):
        from django.test import override_settings

        from tests.django_backend.settings import TASKS

        result = tasks.nothing.using(queue_name="emails").enqueue()
        settings = {**TASKS, "default": {**TASKS["default"], "QUEUES": ["default"]}}
        with override_settings(TASKS=settings):
            assert tasks.nothing.get_result(result.id).task == tasks.nothing

    def test_the_option_max_attempts_is_the_runs(self, acme, tasks):
        assert get_run(tasks.nothing.enqueue().id).max_attempts == 2


class TestTenants:
    def test_without_a_tenant_nothing_is_enqueued(self, tasks):
        before = runs()
        with pytest.raises(TenantMissingError, match=r"tests\.django_backend\.tasks\.nothing"):
            tasks.nothing.enqueue()
        assert runs() == before

    def test_the_function_that_the_option_tenant_names_says_whose_it_is(self, tasks):
        result = tasks.of_resolved_tenant.enqueue(tenant="globex")
        assert get_run(result.id).tenant_id == "globex"

    def test_a_tenant_that_is_not_registered_is_refused(self, tasks):
        with pytest.raises(UnknownTenantError):
            tasks.of_resolved_tenant.enqueue(tenant="nobody")

    def test_a_function_that_finds_none_is_refused(self, tasks):
        with pytest.raises(TenantMissingError):
            tasks.of_resolved_tenant.enqueue(tenant=None)

    def test_a_tenants_code_cannot_enqueue_for_another(self, acme, tasks):
        with pytest.raises(TenantContextError):
            tasks.of_resolved_tenant.enqueue(tenant="globex")

    def test_a_tenants_code_cannot_read_anothers_result(self, acme, tasks, refusals):
        result = tasks.nothing.enqueue()
        with platform_context(), tenant_context("globex"), pytest.raises(refusals.TaskResultDoesNotExist):
            tasks.nothing.get_result(result.id)


class TestResults:
    def test_a_result_is_found_by_its_id(self, acme, tasks):
        result = tasks.nothing.enqueue(1, two=2)
        found = tasks.nothing.get_result(result.id)
        assert (found.id, found.task, found.args, found.kwargs) == (result.id, tasks.nothing, [1], {"two": 2})
        assert (found.status, found.backend) == (result.status, "default")
        assert asyncio.run(tasks.nothing.aget_result(result.id)).id == result.id

    @pytest.mark.parametrize("result_id", ["123", "6f1d3f3e-6d2a-4d0c-9a0e-5f3f5a1c7e21", ""])
    def test_an_id_that_is_none_is_said_to_be_none(self, acme, tasks, refusals, result_id):
        with pytest.raises(refusals.TaskResultDoesNotExist):
            tasks.nothing.get_result(result_id)
        with pytest.raises(refusals.TaskResultDoesNotExist):
            asyncio.run(tasks.nothing.aget_result(result_id))

    def test_another_tasks_result_is_not_this_ones(self, acme, tasks, refusals):
        result = tasks.answer.enqueue()
        with pytest.raises(refusals.TaskResultMismatch):
            tasks.nothing.get_result(result.id)

    def test_a_run_of_another_event_is_no_result(self, acme, tasks, framework, refusals):
        handle = send_job("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.0})
        with pytest.raises(refusals.TaskResultDoesNotExist):
            framework.default_task_backend.get_result(handle.id)

    def test_refresh_reads_the_record_again(self, acme, tasks, framework):
        result = tasks.nothing.enqueue()
        cancel_run(result.id)
        assert result.status == framework.TaskResultStatus.READY
        result.refresh()
        assert result.status == framework.TaskResultStatus.FAILED
        asyncio.run(result.arefresh())
        assert result.finished_at is not None

    def test_a_cancelled_task_has_failed_and_says_why(self, acme, tasks):
        from cgk_tasks.errors import RunCancelledError

        result = tasks.nothing.enqueue()
        cancel_run(result.id)
        (error,) = tasks.nothing.get_result(result.id).errors
        assert error.exception_class is RunCancelledError
        assert "cancelled" in error.traceback


class TestTransactions:
    def test_a_task_is_neither_on_record_nor_dispatched_before_the_commit_and_both_after_it(self, acme, tasks):
        from django.db import transaction

        queue = queue_of_one()
        with transaction.atomic():
            result = any_queue(tasks.nothing, queue)
            before = is_on_record(result), is_published(queue)
        assert (before, is_on_record(result), is_published(queue)) == ((False, False), True, True)

    def test_it_is_a_part_of_the_transaction_itself(self, acme, tasks):
        from django.db import connection, transaction

        with transaction.atomic():
            result = tasks.nothing.enqueue()
            with connection.cursor() as cursor:
                cursor.execute("SELECT state FROM cgk.runs WHERE id = %s", [result.id])
                assert cursor.fetchall() == [("pending",)]

    def test_a_rollback_leaves_nothing(self, acme, tasks):
        from django.db import transaction

        queue = queue_of_one()
        with transaction.atomic():
            result = any_queue(tasks.nothing, queue)
            transaction.set_rollback(True)
        assert (is_on_record(result), is_published(queue)) == (False, False)

    def test_a_savepoint_that_is_rolled_back_leaves_nothing_and_the_rest_is_sent(self, acme, tasks):
        from django.db import transaction

        lost, kept = queue_of_one(), queue_of_one()
        with transaction.atomic():
            others = any_queue(tasks.nothing, kept)
            with transaction.atomic():
                result = any_queue(tasks.nothing, lost)
                transaction.set_rollback(True)
        assert (is_on_record(result), is_published(lost)) == (False, False)
        assert (is_on_record(others), is_published(kept)) == (True, True)

    def test_a_transaction_that_cannot_take_it_is_rolled_back(self, acme, tasks):
        from django.db import connection, transaction

        def write_nothing():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")

        with transaction.atomic():
            write_nothing()
            with pytest.raises(StoreError):
                tasks.nothing.enqueue()
            with pytest.raises(transaction.TransactionManagementError):
                write_nothing()

    def test_in_a_transaction_on_another_database_it_is_sent_after_the_commit(self, acme, tasks, another_database):
        from django.db import transaction

        with transaction.atomic(using="elsewhere"):
            result = tasks.of_another_database.enqueue()
            assert (is_on_record(result), result.enqueued_at) == (False, None)
        assert is_on_record(result)
        assert result.enqueued_at is not None

    def test_a_rollback_on_another_database_leaves_nothing(self, acme, tasks, another_database):
        from django.db import transaction

        with transaction.atomic(using="elsewhere"):
            result = tasks.of_another_database.enqueue()
            transaction.set_rollback(True, using="elsewhere")
        assert not is_on_record(result)

    def test_without_time_zones_it_is_sent_after_the_commit(self, acme, tasks):
        from django.db import connection, transaction
        from django.test import override_settings

        connection.close()  # a connection reads times as the settings are when it is made
        try:
            with override_settings(USE_TZ=False), transaction.atomic():
                result = tasks.nothing.enqueue()
                assert not is_on_record(result)
                assert result.enqueued_at is None
        finally:
            connection.close()
        assert is_on_record(result)

    def test_enqueued_from_on_commit_it_is_sent_at_once(self, acme, tasks):
        from django.db import transaction

        results = []
        with transaction.atomic():
            transaction.on_commit(lambda: results.append(tasks.nothing.enqueue()))
        assert is_on_record(results[0])


class TestSendsInTransaction:
    ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}

    def test_what_is_sent_in_the_block_comes_with_the_commit(self, tasks):
        from django.db import transaction

        from cgk_tasks.django import sends_in_transaction

        queue = queue_of_one()
        with transaction.atomic(), sends_in_transaction():
            run = send_job("order.created", self.ORDER, queue=queue)
            before = is_on_record(run), is_published(queue)
        assert (before, is_on_record(run), is_published(queue)) == ((False, False), True, True)

    def test_an_exception_leaves_nothing(self, tasks):
        from django.db import transaction

        from cgk_tasks.django import sends_in_transaction

        sent = []

        def send_and_fail():
            sent.append(send_job("order.created", self.ORDER))
            raise RuntimeError

        with pytest.raises(RuntimeError), transaction.atomic(), sends_in_transaction():
            send_and_fail()
        assert not is_on_record(sent[0])

    def test_after_an_exception_that_is_caught_what_was_sent_is_dispatched(self, tasks):
        from django.db import transaction

        from cgk_tasks.django import sends_in_transaction

        queue = queue_of_one()

        def send_and_fail():
            with sends_in_transaction():
                send_job("order.created", self.ORDER, queue=queue)
                raise RuntimeError

        with transaction.atomic(), pytest.raises(RuntimeError):
            send_and_fail()
        assert is_published(queue)

    def test_many_are_sent_together(self, tasks):
        from django.db import transaction

        from cgk_tasks.django import sends_in_transaction

        with transaction.atomic(), sends_in_transaction():
            sent = send_jobs(SendItem("order.created", self.ORDER) for _ in range(25))
        assert all(is_on_record(run) for run in sent)

    def test_what_is_sent_counts_for_the_tenants_quota(self, tasks):
        from django.db import transaction

        from cgk_tasks.django import sends_in_transaction

        set_tenant_limits("initech", daily_runs=1)
        try:
            with tenant_context("initech"), transaction.atomic(), sends_in_transaction():
                app.send_task("shop.count")
                with pytest.raises(QuotaExceededError):
                    app.send_task("shop.count")
        finally:
            set_tenant_limits("initech", daily_runs=None)

    def test_without_a_transaction_it_is_refused(self, tasks):
        from cgk_tasks.django import sends_in_transaction

        with pytest.raises(ConfigurationError, match="no transaction"), sends_in_transaction():
            pass

    def test_in_a_transaction_on_another_database_it_is_refused(self, tasks, another_database):
        from django.db import transaction

        from cgk_tasks.django import sends_in_transaction

        with (
            pytest.raises(ConfigurationError, match="on_commit"),
            transaction.atomic(using="elsewhere"),
            sends_in_transaction(using="elsewhere"),
        ):
            pass


@pytest.fixture
def another_database():
    """One that is not that of the runs, and not even PostgreSQL."""
    from django.db import connections

    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    connections.settings["elsewhere"] = {**connections.settings["default"], **sqlite}
    yield
    connections["elsewhere"].close()
    del connections["elsewhere"], connections.settings["elsewhere"]


class TestSettings:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"TENNANT": "shop.tenant_of"}, 'Did you mean "TENANT"'),
            ({"TENANT": 7}, "function"),
            ({"DATABASE": None}, "alias"),
            ({"MAX_ATTEMPTS": 0}, "whole number"),
            ({"MAX_ATTEMPTS": True}, "whole number"),
        ],
    )
    def test_an_option_that_is_none_is_refused_by_name(self, tasks, options, said):
        from cgk_tasks.django import TasksBackend

        with pytest.raises(ConfigurationError, match=said) as refused:
            TasksBackend("slow", {"OPTIONS": options})
        assert "TASKS['slow']" in str(refused.value)

    def test_a_function_that_cannot_be_imported_is_named(self, tasks):
        from cgk_tasks.django import TasksBackend

        backend = TasksBackend("default", {"OPTIONS": {"TENANT": "shop.no_such_function"}})
        with pytest.raises(ConfigurationError, match=r"shop\.no_such_function"):
            backend.enqueue(tasks.nothing, [], {})

    def test_manage_py_check_finds_nothing_to_say(self, tasks, framework):
        assert list(framework.task_backends["default"].check()) == []

    def test_manage_py_check_tells_of_a_database_that_django_has_not(self, tasks, framework):
        (problem,) = framework.task_backends["elsewhere"].check()
        assert "'elsewhere', which is not in DATABASES" in problem.msg

    @pytest.fixture
    def local_provider(self, setting):
        setting(JOBS_PROVIDER="local")
        reset_job_client()
        yield
        setting(JOBS_PROVIDER="celery")
        reset_job_client()

    def test_a_provider_without_workers_is_refused(self, acme, tasks, framework, local_provider):
        (problem,) = framework.task_backends["default"].check()
        assert "ImmediateBackend" in problem.hint
        with pytest.raises(ConfigurationError, match="JOBS_PROVIDER is local"):
            tasks.nothing.enqueue()


def runs():
    from cgk_tasks.sql.postgres import autocommit

    with autocommit() as connection:
        return connection.execute("SELECT count(*) FROM cgk.runs").fetchone()[0]
