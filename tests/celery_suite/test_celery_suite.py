"""Celery's own tests say the same of an application whose import was changed as of the application before."""

import pytest

from tests.celery_suite.comparison import compare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_what_passes_on_plain_celery_passes_here():
    comparison = compare()
    print(comparison.table())
    assert comparison.compared > 200, comparison.table()
    assert not comparison.worse, comparison.table()
