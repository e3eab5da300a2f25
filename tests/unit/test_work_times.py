"""Percentiles of lengths of time that were counted in buckets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.runs.work_times import bucket_seconds, percentile


def bucket_of(seconds):
    """As sql/counts.sql has it."""
    return math.floor(math.log2(max(seconds, 0.0001) * 10_000) * 4)


@pytest.mark.parametrize("seconds", [0.0001, 0.0123, 1.0, 59.9, 86_400.0, 30 * 86_400.0])
def test_a_bucket_stands_for_a_length_within_a_tenth(seconds):
    assert bucket_seconds(bucket_of(seconds)) == pytest.approx(seconds, rel=0.1)


def test_without_runs_there_is_no_percentile():
    assert percentile({}, 50) is None


def test_the_percentile_is_what_so_many_runs_did_not_exceed():
    buckets = {bucket_of(0.1): 98, bucket_of(3.0): 1, bucket_of(60.0): 1}
    assert [percentile(buckets, percent) for percent in (50, 98, 99, 100)] == [
        pytest.approx(0.1, rel=0.1), pytest.approx(0.1, rel=0.1), pytest.approx(3, rel=0.1), pytest.approx(60, rel=0.1),
    ]  # fmt: skip


@given(st.lists(st.floats(0.0001, 1e6), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_it_is_within_a_tenth_of_that_of_the_lengths_themselves(lengths, percent):
    buckets = {}
    for seconds in lengths:
        buckets[bucket_of(seconds)] = buckets.get(bucket_of(seconds), 0) + 1
    exact = sorted(lengths)[math.ceil(len(lengths) * percent / 100) - 1]
    assert percentile(buckets, percent) == pytest.approx(exact, rel=0.1)
