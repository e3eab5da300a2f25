"""A pytest plugin for both sides: picks the tests of this process, and writes how they end to a file, line by line."""

import json
import os
import zlib
from pathlib import Path

import pytest
from celery.contrib.testing.manager import ManagerMixin
from celery.utils.nodenames import anon_nodename

from tests.celery_suite.not_applicable import reason_of

_results = Path(os.environ["CELERY_SUITE_RESULTS"])
_part, _parts = (int(number) for number in os.environ["CELERY_SUITE_PART"].split("/"))


def _write(**line: object) -> None:
    with _results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    applying = []
    for item in items:
        if zlib.crc32(item.nodeid.encode()) % _parts != _part:
            continue
        reason = reason_of(item.nodeid)
        if reason is None:
            applying.append(item)
        else:
            _write(test=item.nodeid, outcome="not applicable", detail=reason)
    config.hook.pytest_deselected(items=[item for item in items if item not in applying])
    items[:] = applying


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if type(report) is not pytest.TestReport:
        return  # a subtest's: the test's own says the same
    if report.when == "call" or report.outcome != "passed":
        outcome = "fails as expected" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        _write(
            test=report.nodeid, outcome=outcome, detail=str(report.longrepr or ""), seconds=round(report.duration, 2)
        )


def _wait_until_idle(manager: ManagerMixin) -> None:
    """As Celery's, at the end of each test, but it asks the one worker by its name.

    Without a name Celery waits for a whole second in which other workers might answer.
    """
    while manager.app.control.purge():
        pass
    inspect = manager.app.control.inspect(destination=[anon_nodename()])
    while any((inspect.active() or {}).values()):
        pass


ManagerMixin.wait_until_idle = _wait_until_idle
