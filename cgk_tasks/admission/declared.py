"""The limits of a job as text, by which senders know them that do not import the job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from cgk_tasks.admission.rules import AtOnce, Limit, Throttle


class Declared(NamedTuple):
    """A job and its limits."""

    job: str
    limits: tuple[Limit, ...]


def text_of_limits(job: str, limits: Sequence[Limit]) -> str:
    """What `limits_of` reads."""
    return json.dumps({"job": job, "limits": [_values(limit) for limit in limits]})


def _values(limit: Limit) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": limit.kind, "limit": limit.limit, "per": limit.per, "key": limit.key}
    if isinstance(limit, AtOnce):
        return values | {"lend_to": limit.lend_to}
    return values | {"every": limit.period, "burst": limit.burst}


@lru_cache(maxsize=1024)
def limits_of(text: str) -> Declared:
    """A job's limits from their text."""
    read = json.loads(text)
    return Declared(read["job"], tuple(_limit(**values) for values in read["limits"]))


def _limit(kind: str, **values: Any) -> Limit:
    return AtOnce(**values) if kind == AtOnce.kind else Throttle(**values)
