"""A pytest plugin for both sides: gives each process its servers, picks the tests, longest first, and writes how they
end to a file, line by line.
"""

import json
import os
from pathlib import Path

import pytest
from celery.contrib.testing.manager import ManagerMixin
from celery.utils.nodenames import anon_nodename

from tests.celery_suite.not_applicable import reason_of
from tests.celery_suite.passing import seconds_of

_results = Path(os.environ["CELERY_SUITE_RESULTS"])
_process = os.environ.get("PYTEST_XDIST_WORKER", "")
os.environ.update(json.loads(os.environ["CELERY_SUITE_PLACES"])[int(_process.removeprefix("gw") or 0)])


def _write(**line: object) -> None:
    with _results.open("a") as file:
        file.write(json.dumps(line) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {item: reason for item in items if (reason := reason_of(item.nodeid)) is not None}
    if _process == "gw0":
        for item, reason in left_out.items():
            _write(test=item.nodeid, outcome="not applicable", detail=reason)
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
    if os.environ["CELERY_SUITE_PART"] == "integration":
        items.sort(key=lambda item: -seconds_of(item.nodeid))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if _process or type(report) is not pytest.TestReport:
        return  # a subtest's: the test's own says the same
    if report.when == "call" or report.outcome != "passed":
        outcome = "fails as expected" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        _write(
            test=report.nodeid, outcome=outcome, detail=str(report.longrepr or ""), seconds=round(report.duration, 2)
        )


@pytest.fixture(autouse=True)
def same_settings(celery_session_app):
    """What a test sets in the app is no other test's: they run in any order."""
    changes = celery_session_app.conf.changes
    before = dict(changes)
    yield
    changes.clear()
    changes.update(before)


def _inspect(manager: ManagerMixin, timeout: float = 3.0):
    """As Celery's, but it asks the one worker by its name.

    Without a name Celery waits for the whole time in which other workers might answer.
    """
    return manager.app.control.inspect(timeout=timeout, destination=[anon_nodename()])


def _wait_until_idle(manager: ManagerMixin) -> None:
    """As Celery's, at the end of each test."""
    while manager.app.control.purge():
        pass
    inspect = _inspect(manager, 1.0)
    while any((inspect.active() or {}).values()):
        pass


ManagerMixin.inspect = _inspect
ManagerMixin.wait_until_idle = _wait_until_idle
