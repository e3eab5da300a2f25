"""`cgk-tasks tenants usage`."""

from datetime import UTC, datetime

import pytest

from cgk_tasks.sql.postgres import autocommit

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def used(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.tenant_usage")
        connection.execute(
            "INSERT INTO cgk.tenant_usage (tenant_id, hour, runs, failed, run_seconds, queue_seconds, rejected)"
            " VALUES ('acme', %(hour)s, 5, 1, 2.5, 1.25, 3), ('globex', %(hour)s, 7, 0, 4, 0, 0)",
            {"hour": HOUR},
        )


def test_a_table_has_those_first_that_ran_longest(cgk):
    lines = [line.split() for line in cgk("tenants", "usage").out.splitlines()]
    assert lines == [
        ["tenant_id", "runs", "failed", "run_seconds", "queue_seconds", "rejected"],
        ["globex", "7", "0", "4.0", "0.0", "0"],
        ["acme", "5", "1", "2.5", "1.25", "3"],
    ]


def test_csv_is_for_spreadsheets(cgk):
    found = cgk("tenants", "usage", "--tenant", "acme", "--by", "day", "--format", "csv").out
    day = HOUR.replace(hour=0).isoformat()
    assert found == (f"tenant_id,begin,runs,failed,run_seconds,queue_seconds,rejected\nacme,{day},5,1,2.5,1.25,3\n")


def test_json_is_for_programs(cgk):
    (found,) = cgk("tenants", "usage", "--tenant", "acme", "--since", HOUR.isoformat(), "--format", "json").json
    assert (found["tenant_id"], found["runs"], found["rejected"], found["begin"]) == ("acme", 5, 3, None)


def test_a_time_in_which_nothing_ran_is_told(cgk):
    outcome = cgk("tenants", "usage", "--since", "2020-01-01T00:00:00Z", "--until", "2020-02-01T00:00:00Z")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "Nothing ran in that time.\n")


@pytest.mark.parametrize("options", [("--by", "week"), ("--format", "xml"), ("--since", "yesterday")])
def test_what_cannot_be_asked_is_wrong_usage(cgk, options):
    assert cgk("tenants", "usage", *options).code == 2
