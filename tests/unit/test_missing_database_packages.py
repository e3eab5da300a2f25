"""Where a package of the database cannot be imported, no job runs outside of its tenant's context."""

import subprocess
import sys

SCRIPT = """
import sys
sys.modules[{package!r}] = None
from cgk_tasks import current_tenant, define_job
from cgk_tasks.testing import run_job

@define_job("who", event="onboarding.check")
def who(ctx):
    print("ran as", current_tenant().id, flush=True)
    {then}

run_job(who, {{"tenantId": "acme"}})
"""


def run(package: str, then: str) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(package=package, then=then)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_a_job_runs_as_its_tenant_or_not_at_all_without_the_package_of_sessions() -> None:
    done = run("sqlalchemy", "ctx.db")
    assert (done.returncode, done.stdout.splitlines()[:1]) == (1, ["ran as acme"])


def test_no_job_runs_without_the_driver() -> None:
    done = run("psycopg", "pass")
    assert (done.returncode, done.stdout) == (1, "")
