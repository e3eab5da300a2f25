"""How long runs ran and waited: in buckets, as `sql/counts.sql` counts them, and percentiles of those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SMALLEST_SECONDS: Final = 0.0001
BUCKETS_PER_DOUBLING: Final = 4


def bucket_seconds(bucket: int) -> float:
    """The length that a bucket stands for, which no length in it differs from by more than a tenth. Shorter ones than
    the smallest are in the first bucket.
    """
    return float(SMALLEST_SECONDS * 2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING))


def percentile(buckets: Mapping[int, int], percent: float) -> float | None:
    """The seconds that so many percent of the runs did not exceed; None without any run.

        percentile({40: 99, 60: 1}, 50)  # 0.1116...

    buckets: how many runs each has.
    """
    wanted = sum(buckets.values()) * percent / 100
    reached = 0
    for bucket in sorted(buckets):
        reached += buckets[bucket]
        if reached >= wanted and reached > 0:
            return bucket_seconds(bucket)
    return None
