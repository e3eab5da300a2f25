"""Workers, senders and beats of an earlier release and of the code at hand, side by side on one database and one Redis.

The upgrade goes on while runs flow: the migration, new processes beside the old ones, old workers that stop or are
killed, a deploy that is rolled back and done again. Each test looks at what is left in the end from one side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

import cgk_tasks
from cgk_tasks import embedded
from tests.support.waiting import wait_until
from tests.upgrade.record import TENANTS, Record, unexpected_errors
from tests.upgrade.release import Release
from tests.upgrade.sides import Process, Side, leader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEW_CODE = Path(cgk_tasks.__file__).parents[1]

EVENTS = (
    "upgrade.write", "upgrade.both", "upgrade.flaky", "upgrade.steps", "upgrade.limited", "upgrade.sends",
    "upgrade.add",
    "upgrade.total",
)  # fmt: skip
"""Each of these, sent by either side, must have been run by either side before the upgrade goes on."""


@dataclass
class Upgrade:
    record: Record
    old: Side
    new: Side
    leaders: list[str] = field(default_factory=list)
    """Sides, in the order in which their workers led."""

    def wait_led_by(self, side: Side) -> Process:
        """Until a worker of the side leads. Returns it."""
        name = wait_until(
            lambda: found if (found := leader(side.database_url)) and found.startswith(side.name) else None,
            60,
            f"a worker of the {side.name} side leads",
        )
        self.leaders.append(side.name)
        return next(process for process in side.started if process.name == name)

    def wait_progress(self) -> None:
        """Until some runs that are sent from now on have ended."""
        begun = self.record.crossings().total()
        wait_until(lambda: self.record.crossings().total() > begun + 60, 120, "60 runs more")

    def wait_crossed(self) -> None:
        """Until each side has run each event of both senders, once more than now."""
        before = self.record.crossings()
        wanted = list(product(EVENTS, ("old", "new"), ("old", "new")))

        def missing() -> list[tuple[str, str, str]]:
            self.old.assert_no_process_failed()
            self.new.assert_no_process_failed()
            now = self.record.crossings()
            return [crossing for crossing in wanted if now[crossing] < before[crossing] + 1]

        try:
            wait_until(lambda: not missing(), 120)
        except AssertionError as error:
            raise AssertionError(f"not run: {missing()}") from error

    def run(self) -> None:
        old, new = self.old, self.new
        old.migrate()
        old.add_tenants(*TENANTS)
        old_sender, old_beat = old.sender(), old.beat()
        first, second = old.workers("first", "second")
        self.wait_led_by(old)
        self.wait_progress()

        new.migrate()
        self.wait_progress()  # the old code alone on the new schema
        new_sender, new_beat = new.sender(), new.beat()
        third, fourth = new.workers("third", "fourth")
        self.wait_crossed()

        leading = self.wait_led_by(old)
        other = second if leading is first else first
        other.stop()
        leading.kill()
        self.wait_led_by(new)
        old_beat.stop()

        (back,) = old.workers("back")  # the deploy is rolled back
        self.wait_crossed()
        third.stop()
        fourth.kill()
        self.wait_led_by(old)
        self.wait_progress()

        (again,) = new.workers("again")
        self.wait_crossed()
        old_sender.stop()
        back.stop()
        self.wait_led_by(new)
        self.wait_progress()

        new.finish()
        self.wait_progress()  # without what the old code needs
        new_sender.stop()
        new_beat.stop()
        wait_until(lambda: self.record.open_runs() == 0, 90, "every run closed")
        again.stop()


@pytest.fixture(scope="module")
def upgrade(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    folder = tmp_path_factory.mktemp("upgrade")
    with embedded.temporary() as services:
        urls = services.database_url, services.broker_url
        old, new = Side("old", release.code, *urls, folder, release.settings), Side("new", NEW_CODE, *urls, folder)
        upgrade = Upgrade(Record(folder, services.database_url), old, new)
        try:
            upgrade.run()
            yield upgrade
        finally:
            for process in (*old.started, *new.started):
                process.end()


def test_every_accepted_run_ended_as_it_should(upgrade):
    assert upgrade.record.wrong_ends() == []


def test_no_run_was_made_twice(upgrade):
    assert upgrade.record.made_runs() == upgrade.record.expected_runs()


def test_each_row_of_ctx_db_is_there_once(upgrade):
    assert upgrade.record.written_rows() == upgrade.record.expected_rows()


def test_both_sides_get_the_same_run_for_an_idempotency_key(upgrade):
    assert {key: ids for key, ids in upgrade.record.ids_by_shared_key().items() if len(ids) != 1} == {}


def test_no_run_executed_twice_at_once_and_limits_held(upgrade):
    assert upgrade.record.overlaps() == []


def test_attempts_are_counted_as_they_were_made(upgrade):
    assert upgrade.record.wrong_attempts() == []


def test_every_tick_made_each_tenants_run_once(upgrade):
    assert upgrade.record.wrong_ticks() == []


def test_leadership_passed_from_old_to_new_and_back(upgrade):
    assert upgrade.leaders == ["old", "old", "new", "old", "new"]


def test_neither_side_logged_an_error_that_is_not_expected(upgrade):
    assert unexpected_errors([*upgrade.old.started, *upgrade.new.started]) == []
