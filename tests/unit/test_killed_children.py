"""How long a worker remembers the children that it has killed."""

from cgk_tasks.celery_tasks.killed_children import KilledChildren


class Clock:
    seconds = 1_000.0

    def __call__(self):
        return self.seconds


def test_a_killed_child_is_remembered_while_its_runs_have_not_been_looked_for():
    clock = Clock()
    killed = KilledChildren(clock)
    killed.add(7)
    clock.seconds += 3_600
    assert (7 in killed, 8 in killed) == (True, False)


def test_a_claim_that_it_sent_before_its_death_may_still_come():
    killed = KilledChildren(Clock())
    killed.add(7)
    killed.looked_after()
    assert 7 in killed


def test_it_is_forgotten_once_its_runs_are_taken_care_of():
    clock = Clock()
    killed = KilledChildren(clock)
    killed.add(7)
    clock.seconds += 120
    killed.add(8)
    killed.looked_after()
    assert (7 in killed, 8 in killed) == (False, True)
