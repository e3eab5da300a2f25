"""`cgk-tasks migrate`, on a fresh database."""

import os

import pytest

from cgk_tasks.sql.postgres import autocommit, close_pools


@pytest.fixture
def fresh_database(environment, services, setting):
    name = f"fresh_{os.urandom(4).hex()}"
    with autocommit() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    setting(CGK_DATABASE_URL=services.database_url.replace("/cgk?", f"/{name}?"))
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
