"""`cgk-tasks pause`, `resume` and `pauses`."""

import pytest

from cgk_tasks.flow.pauses import list_pauses, resume

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def nothing_paused(setting):
    setting(CGK_JOB_MODULES="tests.support.limits_jobs")
    yield
    for one in list_pauses():
        resume(one.queue, tenant=one.tenant_id, job=one.event)


def test_a_job_of_a_tenant_is_paused_listed_and_resumed(cgk):
    what = ("--job", "limits-single", "--tenant", "acme")
    assert cgk("pause", *what, "--reason", "broken", "--by", "ada").out == "paused: tenant acme, event limits.single\n"
    (row,) = cgk("pauses", "--json").json
    assert (row["tenant_id"], row["event"], row["mode"], row["paused_by"], row["reason"]) == (
        "acme", "limits.single", "hold", "ada", "broken",
    )  # fmt: skip
    assert "limits.single" in cgk("pauses").out
    assert cgk("resume", *what).out == "resumed\n"
    assert "Nothing is paused" in cgk("pauses").err


def test_a_pause_for_a_time_says_when_it_ends(cgk):
    made = cgk("pause", "--queue", "q-other", "--for", "2h", "--drop")
    assert made.out.startswith("paused until ")
    assert made.out.endswith(": queue q-other, and what waits is cancelled\n")


def test_resuming_what_is_not_paused_says_what_is(cgk):
    cgk("pause", "--tenant", "acme")
    outcome = cgk("resume", "--tenant", "globex")
    assert (outcome.out, outcome.err) == ("not paused\n", "Paused are: tenant acme\n")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 1),
        (("--tenant", "acme", "--until", "2020-01-01T00:00:00Z"), 1),
        (("--tenant", "acme", "--until", "tomorrow"), 2),
        (("--tenant", "acme", "--until", "2040-01-01T00:00:00Z", "--for", "1h"), 2),
        (("--job", "limits-singel"), 1),
    ],
)
def test_what_cannot_be_paused_fails(cgk, options, code):
    assert cgk("pause", *options).code == code
    assert list_pauses() == []


def test_the_doctor_warns_of_it(cgk):
    cgk("pause", "--tenant", "acme")
    found = [one["message"] for one in cgk("doctor", "--json").json if one["check"] == "pauses"]
    assert found == ["paused: tenant acme"]
