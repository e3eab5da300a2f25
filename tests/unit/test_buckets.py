"""Buckets: never more starts than the rate and the burst allow, and never fewer than are asked for."""

from itertools import accumulate

from hypothesis import assume, given
from hypothesis import strategies as st

from cgk_tasks.admission.buckets import Bucket, least_burst

NOW = 1_800_000_000.0

buckets = st.builds(
    Bucket,
    rate=st.integers(1, 1000),
    period=st.floats(1, 3600),
    burst=st.integers(1, 1000),
    tat=st.floats(NOW - 1e6, NOW),
)
pauses = st.lists(st.floats(0, 10), min_size=1, max_size=60)


def starts(bucket, pauses, asked=1_000_000):
    """(time, how many started), where all that may start does."""
    made = []
    for now in accumulate(pauses, initial=NOW):
        free = min(asked, max(0, bucket.free(now)))
        bucket = bucket.after(free, now) if free else bucket
        made.append((now, free))
    return made


@given(buckets, pauses)
def test_in_no_time_more_start_than_its_burst_and_what_the_rate_gives_in_it(bucket, pauses):
    made = starts(bucket, pauses)
    for begin, (since, _) in enumerate(made):
        for end in range(begin, len(made)):
            started = sum(count for _, count in made[begin : end + 1])
            allowed = bucket.burst + (made[end][0] - since) / bucket.step
            assert started <= allowed + 0.01


@given(buckets)
def test_all_that_the_rate_gives_starts_when_there_is_always_enough(bucket):
    assume(bucket.burst > 1)  # with one, what a look comes too late for is lost
    made = starts(bucket, [bucket.step * (bucket.burst - 1)] * 40)
    elapsed = made[-1][0] - NOW
    assert sum(count for _, count in made) >= int(elapsed / bucket.step)


@given(buckets, pauses)
def test_it_opens_at_the_time_that_it_says(bucket, pauses):
    now = starts(bucket, pauses)[-1][0]
    empty = bucket.after(max(0, bucket.free(now)), now)
    assert empty.free(now) <= 0
    opens_at = empty.opens_at(now)
    assert empty.free(opens_at + 0.01 * empty.step) >= 1
    assert empty.free(opens_at - 0.01 * empty.step) <= 0


@given(st.integers(1, 100_000), st.floats(0.1, 1000))
def test_with_the_least_burst_passes_a_tenth_of_a_second_apart_reach_the_rate(rate, period):
    assume(rate / period >= 10)
    bucket = Bucket(rate, period, least_burst(rate, period), NOW)
    made = starts(bucket, [0.1] * 50)
    assert sum(count for _, count in made) >= int(5.0 / bucket.step)


def test_a_slow_rate_has_no_burst_that_nobody_asked_for():
    assert [least_burst(1, 60.0), least_burst(9, 1.0)] == [1, 1]
