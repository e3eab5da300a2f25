"""Celery's own integration tests on us: what passes on plain Celery passes here."""

import subprocess

import pytest

from tests.celery_suite import smoke
from tests.celery_suite.comparison import compare, listed, not_passed
from tests.celery_suite.passing import passing
from tests.celery_suite.sides import ROOT, run, run_again
from tests.celery_suite.source import source_distribution


@pytest.fixture(scope="module")
def source():
    try:
        source_distribution()
    except (subprocess.SubprocessError, OSError) as exc:
        pytest.skip(f"Celery's source distribution cannot be had from the package index: {exc}")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("source")
def test_what_passes_on_plain_celery_passes_here(services, template):
    """On plain Celery they are run only for a version whose list nobody has made yet."""
    expected = passing()
    if expected is None:
        worse = compare().worse
    else:
        ours = run("ours", database=(services, template))
        ours = run_again("ours", ours, not_passed(expected, ours), (services, template))
        worse = not_passed(expected, ours)
    assert not worse, f"{len(worse)} pass on plain Celery, and not here:\n{listed(worse)}"


def test_the_scenarios_of_the_smoke_tests_that_need_containers_are_in_tests_of_ours():
    named = {path for paths in smoke.ELSEWHERE.values() for path in paths}
    assert not {path for path in named if not (ROOT / path).exists()}
