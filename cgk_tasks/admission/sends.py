"""How many sends are accepted: buckets in PostgreSQL.

They are taken from in the sender's transaction, so that what is rolled back does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cgk_tasks.admission.rules import rule_name
from cgk_tasks.admission.send_rules import RateLimit
from cgk_tasks.sql.postgres import AnyConnection, execute, fetch, statements

SQL = statements("merging")


class Bucket(NamedTuple):
    """Where a send of an event is counted: what the rule accepts for one key."""

    event: str
    rule: RateLimit
    key: str

    @property
    def place(self) -> tuple[str, str]:
        """Its row. All who need several take them in this order, so that two cannot wait for each other."""
        return rule_name(self.event, self.rule), self.key


def granted(connection: AnyConnection, buckets: Sequence[Bucket], sends: int) -> int:
    """How many of these sends all of the buckets have room for. They are taken, and the rows stay locked."""
    taken: list[tuple[Bucket, int]] = []
    left = sends
    for bucket in sorted(buckets, key=lambda one: one.place):
        left = _take(connection, bucket, left)
        taken.append((bucket, left))
        if not left:
            break
    for bucket, found in taken:
        if found > left:
            execute(connection, SQL["give_back"], _values(bucket, found - left))
    return left


def lock(connection: AnyConnection, buckets: Sequence[Bucket]) -> None:
    """Lock the rows of several sends' buckets, before any is taken from."""
    for bucket in sorted(set(buckets), key=lambda one: one.place):
        _take(connection, bucket, 0)


def _take(connection: AnyConnection, bucket: Bucket, sends: int) -> int:
    values = {**_values(bucket, sends), "burst": bucket.rule.at_once}
    return int(fetch(connection, SQL["take_from_bucket"], values)[0]["granted"])


def _values(bucket: Bucket, sends: int) -> dict[str, str | int | float]:
    rule, key = bucket.place
    return {"rule": rule, "key": key, "step": bucket.rule.step_seconds, "sends": sends}
