"""Random workflows whose processes are killed at random statements do the same as when nothing disturbs them.

`RANDOM_WORKFLOWS=500 pytest -m slow tests/integration/test_random_workflows.py` tries so many.
"""

import os
import random
from collections import Counter

import pytest

from cgk_tasks import send_job, signal_run
from cgk_tasks.flow.awaited_events import AWAITED
from tests.integration.trip_events import TripPaid
from tests.integration.workflow_jobs import WILD, WildTrip, noted, rows_of
from tests.support.waiting import wait_closed, wait_until

FEW = 4
MANY = int(os.environ.get("RANDOM_WORKFLOWS", "60"))


@pytest.fixture(scope="module")
def worker(start_worker):
    """Who is to die may do so while it executes another run, which then has died too."""
    started = start_worker(["tests.integration.workflow_jobs"], concurrency=2, CGK_MAX_DEATHS="99")
    wait_until(lambda: AWAITED.current().current().get("test.tripPaid") == ("tripId",))
    return started


def kinds_of(seed):
    """What a wild trip consists of, as its workflow decides it."""
    chance = random.Random(seed)
    return [chance.choice(WILD) for _ in range(8)]


def begun(notes, seed, most_deaths):
    """A wild trip. Its signals and events come at any moment: before, while and after they are waited for."""
    run_id = send_job(WildTrip(tenant_id="acme", notes=notes, seed=seed, most_deaths=most_deaths)).id
    for number, kind in enumerate(kinds_of(seed)):
        if kind == "signal":
            signal_run(run_id, "go", key=str(number))
        elif kind == "event":
            send_job(TripPaid(tenant_id="acme", trip_id=run_id))
    return run_id


def ended(notes, run_id):
    """What a wild trip has done in all: its state and result, the rows, and how often each payment was made."""
    run, paid = wait_closed(run_id, 240), noted(f"{notes}.payments")
    by_step = Counter(key.split(":")[1] for key in paid)
    return run.state, run.result, rows_of(run_id), sorted(by_step.items())


def usual(seed):
    """What it does when nothing disturbs it."""
    kinds = kinds_of(seed)
    rows = sorted(str(number) for number, kind in enumerate(kinds) if kind in {"write", "invoke"})
    payments = [(str(number), 1) for number, kind in enumerate(kinds) if kind == "pay"]
    return "completed", 8, rows, payments


def deaths(folder, number):
    return sum(len(noted(str(folder / f"{seed}.deaths"))) for seed in range(number))


def test_an_undisturbed_workflow_does_what_is_expected(worker, tmp_path):
    runs = {seed: begun(str(tmp_path / f"{seed}"), seed, 0) for seed in range(FEW)}
    done = {seed: ended(str(tmp_path / f"{seed}"), run_id) for seed, run_id in runs.items()}
    assert done == {seed: usual(seed) for seed in runs}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_workflows_that_are_killed_do_everything_once(worker, tmp_path, number):
    runs = {seed: begun(str(tmp_path / f"{seed}"), seed, 2) for seed in range(number)}
    done = {seed: ended(str(tmp_path / f"{seed}"), run_id) for seed, run_id in runs.items()}
    assert {seed: found for seed, found in done.items() if found != usual(seed)} == {}
    assert deaths(tmp_path, number) >= number / 2
