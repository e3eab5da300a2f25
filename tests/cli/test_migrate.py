"""`cgk-tasks migrate`, on a fresh database."""

import os

import pytest

from cgk_tasks import migrations
from cgk_tasks.dashboard.data.tenants import tenant_counts
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import autocommit, close_pools
from tests.support.django_here import lead_django_here


@pytest.fixture
def fresh_database(environment, services, setting):
    name = f"fresh_{os.urandom(4).hex()}"
    with autocommit() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    setting(CGK_DATABASE_URL=services.database_url.replace("/cgk?", f"/{name}?"))
    lead_django_here()
    yield name
    close_pools()


def test_check_fails_before_the_first_migration_and_changes_nothing(cgk, fresh_database):
    first, second = cgk("migrate", "--check"), cgk("migrate", "--check")
    assert (first.code, second.code, "Run: cgk-tasks migrate" in second.err) == (1, 1, True)


def test_migrate_makes_the_tables(cgk, fresh_database):
    migrated = cgk("migrate", "--json")
    assert (migrated.code, migrated.json["before"], migrated.json["up_to_date"]) == (0, None, True)


def test_check_is_content_after_a_migration(cgk, fresh_database):
    cgk("migrate")
    assert cgk("migrate", "--check").code == 0


def test_a_second_migration_changes_nothing(cgk, fresh_database):
    cgk("migrate")
    again = cgk("migrate")
    assert (again.code, again.out.startswith("up to date")) == (0, True)


@pytest.fixture
def newer_database(cgk, fresh_database):
    """One that a newer version of cgk_tasks has migrated."""
    cgk("migrate")
    with autocommit() as connection:
        connection.execute("UPDATE cgk.alembic_version SET version_num = '9999'")


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_there_is_nothing_to_migrate_after_an_upgrade_was_rolled_back(cgk, newer_database, options):
    outcome = cgk("migrate", *options)
    assert (outcome.code, outcome.out) == (
        0,
        "nothing to do: the database is at revision 9999, of a newer version of cgk_tasks\n",
    )


def test_the_doctor_warns_of_a_schema_of_a_newer_version(cgk, newer_database):
    found = {finding["check"]: finding for finding in cgk("doctor", "--json").json}
    assert found["migrations"]["level"] == "WARN"


def test_other_commands_say_what_to_do_before_the_first_migration(cgk, fresh_database):
    outcome = cgk("runs", "list")
    assert (outcome.code, "hint:  Run: cgk-tasks migrate" in outcome.err) == (1, True)


def test_the_doctor_says_what_to_do_before_the_first_migration(cgk, fresh_database):
    found = {finding["check"]: finding for finding in cgk("doctor", "--json").json}
    assert (found["migrations"]["level"], found["migrations"]["advice"]) == ("FAIL", "Run: cgk-tasks migrate")
    assert "workers" not in found


@pytest.fixture
def unfinished_database(cgk, fresh_database):
    """One that has what processes of an earlier release need."""
    migrations.migrate("0013")


def test_a_database_that_is_not_finished_is_up_to_date_and_migrate_says_what_is_left(cgk, unfinished_database):
    with autocommit() as connection:
        connection.execute("INSERT INTO cgk.workers (id, name, pid, queues) VALUES (gen_random_uuid(), 'w', 1, '{q}')")
    assert cgk("migrate", "--check").code == 0
    assert "cgk-tasks migrate --finish" in cgk("migrate").err


@pytest.mark.parametrize(
    ("file", "name", "values"),
    [
        ("doctor", "unserved_queues", {"queues": []}),
        ("housekeeping", "oldest_waiting", None),
        ("metrics", "open_runs", {"queues": [], "top": 5}),
        ("metrics", "waiting_longest", {"seconds": 1}),
    ],
)
def test_what_operators_look_at_is_there_on_a_database_that_is_not_finished(unfinished_database, file, name, values):
    statements = postgres.statements(file)
    with autocommit() as connection:
        assert postgres.fetch_or_before(connection, statements[name], statements[f"{name}_before_lanes"], values) == []


def test_so_are_the_dashboards_tenants(unfinished_database):
    assert [one.id for one in tenant_counts()] == []


def test_the_doctor_says_that_the_finish_is_outstanding(cgk, unfinished_database):
    found = {finding["check"]: finding for finding in cgk("doctor", "--json").json}
    assert (found["migrations"]["level"], "migrate --finish" in found["migrations"]["advice"]) == ("WARN", True)


def test_finish_removes_what_an_earlier_release_needs(cgk, unfinished_database):
    finished = cgk("migrate", "--finish", "--json")
    assert (finished.code, finished.json["revision"], finished.json["finished"]) == (0, migrations.newest(), True)


def test_finish_is_refused_while_an_older_worker_lives_and_names_it(cgk, unfinished_database):
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues) VALUES (gen_random_uuid(), 'old@here', 1, '{q}')"
        )
    refused = cgk("migrate", "--finish")
    assert (refused.code, "old@here" in refused.err) == (1, True)
    assert migrations.current() == "0013"


def test_a_conversion_that_was_interrupted_is_not_up_to_date(cgk, unfinished_database):
    with autocommit() as connection:
        connection.execute("DROP INDEX cgk.run_history_errors")
    assert cgk("migrate", "--check").code == 1
