"""`cgk-tasks tenants quarantined`."""

import pytest

from cgk_tasks.sql.postgres import autocommit

pytestmark = pytest.mark.usefixtures("database")


def test_tenants_in_quarantine_are_listed_and_where_it_is_off_it_says_how_to_switch_it_on(cgk):
    assert "CGK_QUARANTINE=true" in cgk("tenants", "quarantined").err
    with autocommit() as connection:
        connection.execute("INSERT INTO cgk.quarantines (tenant_id, runs, failed) VALUES ('acme', 120, 80)")
    (one,) = cgk("tenants", "quarantined", "--json").json
    assert (one["tenant_id"], one["state"], one["runs"], one["failed"]) == ("acme", "paused", 120, 80)
    assert "acme" in cgk("tenants", "quarantined").out
