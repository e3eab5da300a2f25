"""A queue of BullMQ 5 or 6 in Redis, as far as a move needs it: what waits is read, and removed when it was sent.

The keys begin with PREFIX:QUEUE:, the prefix being `bull` if nobody said otherwise.

    wait, paused   lists of ids, the oldest last; of a queue that is paused BullMQ 5 has them in `paused`
    prioritized    a sorted set of ids, the next one first
    delayed        a sorted set of ids; a score is the time in milliseconds times 4096, and a counter
    ID             a hash: name, data and opts as JSON, timestamp, priority, atm (attempts made), parentKey, rjk
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final, Literal

import redis

State = Literal["waiting", "prioritized", "delayed"]

LISTS: Final[tuple[str, ...]] = ("wait", "paused")
SETS: Final[tuple[str, ...]] = ("prioritized", "delayed")

_OF_A_JOB: Final = ("logs", "dependencies", "processed", "failed", "unsuccessful")
_COUNTER: Final = 4096
_OLD_MARKER: Final = "0:"
"""An older BullMQ may have left such entries in `wait` to wake its workers: they are no jobs."""


@dataclass(frozen=True, slots=True)
class BullMQJob:
    """A job as it waits. run_at: when a delayed one is due. attempts: how many its options allow, None where they say
    nothing; attempts_made: of these. priority: 0 for none, else 1 is the most urgent.
    """

    id: str
    queue: str
    name: str
    state: State
    data: Any = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    created_at: datetime
    run_at: datetime | None = None
    priority: int = 0
    attempts: int | None = None
    attempts_made: int = 0
    raw: str = field(repr=False, default="")
    """Its data as text, by which it is known that nobody has changed it."""


@dataclass(frozen=True, slots=True)
class NotMovable:
    """A job that stays in BullMQ, and why."""

    id: str
    reason: str


class BullMQQueue:
    """One queue. Every method raises redis.RedisError."""

    def __init__(self, client: redis.Redis, name: str, prefix: str = "bull") -> None:
        self.name, self.prefix = name, prefix
        self._redis: Any = client
        script = files("cgk_tasks.bridges").joinpath("bullmq_remove.lua").read_text(encoding="utf-8")
        self._remove = self._redis.register_script(script)

    def exists(self) -> bool:
        return bool(self._redis.exists(self._key("meta")))

    def is_paused(self) -> bool:
        """Whether its workers take nothing more."""
        return bool(self._redis.hexists(self._key("meta"), "paused"))

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        pipe = self._redis.pipeline(transaction=False)
        for name in (*LISTS, "active"):
            pipe.llen(self._key(name))
        for name in (*SETS, "waiting-children", "failed", "completed"):
            pipe.zcard(self._key(name))
        names = (*LISTS, "active", *SETS, "waiting-children", "failed", "completed")
        return dict(zip(names, map(int, pipe.execute()), strict=True))

    def ids(self, place: str, skip: int, limit: int) -> list[tuple[str, float]]:
        """Ids of a list or set, the next ones first, each with its score; the first `skip` are left out."""
        if place in LISTS:  # workers take from the end
            found = self._redis.lrange(self._key(place), -(skip + limit), -(skip + 1))
            return [(one, 0.0) for one in reversed(found)]
        scored = self._redis.zrange(self._key(place), skip, skip + limit - 1, withscores=True)
        return [(str(one), float(score)) for one, score in scored]

    def read(self, place: str, ids: Sequence[tuple[str, float]]) -> list[BullMQJob | NotMovable]:
        """The jobs with these ids. One that is gone meanwhile is left out."""
        wanted = [(one, score) for one, score in ids if not one.startswith(_OLD_MARKER)]
        pipe = self._redis.pipeline(transaction=False)
        for job_id, _ in wanted:
            pipe.hgetall(self._key(job_id))
            pipe.exists(*(self._key(f"{job_id}:{part}") for part in ("dependencies", "processed")))
        answers = pipe.execute()
        found: list[BullMQJob | NotMovable] = []
        for (job_id, score), hashed, children in zip(wanted, answers[::2], answers[1::2], strict=True):
            if hashed.get("data") is not None:
                found.append(self._job(place, job_id, score, hashed, has_children=bool(children)))
        return found

    def remove(self, jobs: Sequence[BullMQJob]) -> list[str]:
        """Take them out, each at once and as a whole. Returns for each the list it was in, or active, changed, gone."""
        pipe = self._redis.pipeline(transaction=False)
        shared = [self._key(name) for name in (*LISTS, *SETS, "events", "meta")]
        for job in jobs:
            key = self._key(job.id)
            keys = [key, f"{key}:lock", *shared, *(f"{key}:{part}" for part in _OF_A_JOB)]
            self._remove(keys=keys, args=[job.id, job.raw, self._key("")], client=pipe)
        return [str(one) for one in pipe.execute()]

    def _job(
        self, place: str, job_id: str, score: float, hashed: dict[str, str], *, has_children: bool
    ) -> BullMQJob | NotMovable:
        if "parentKey" in hashed or has_children:
            return NotMovable(job_id, "It belongs to a flow: its parent or children wait for it in BullMQ.")
        if "rjk" in hashed:
            return NotMovable(
                job_id, "It was made by a job scheduler: define the schedule here, and remove it in BullMQ."
            )
        try:
            data, options = json.loads(hashed["data"]), json.loads(hashed.get("opts", "{}"))
            created = _moment(float(hashed.get("timestamp", 0)))
            run_at = _moment(score // _COUNTER) if place == "delayed" and score >= _COUNTER else None
            return BullMQJob(
                job_id, self.name, hashed.get("name", ""), _state(place), data, options, created, run_at,
                int(hashed.get("priority", 0)), _attempts(options), int(hashed.get("atm", 0)), hashed["data"],
            )  # fmt: skip
        except (ValueError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
            return NotMovable(job_id, "It cannot be read: was it written by BullMQ 5 or 6?")

    def _key(self, part: str) -> str:
        return f"{self.prefix}:{self.name}:{part}"


def _state(place: str) -> State:
    if place == "delayed":
        return "delayed"
    return "prioritized" if place == "prioritized" else "waiting"


def _attempts(options: dict[str, Any]) -> int | None:
    """BullMQ writes 0 where nothing was said."""
    attempts = options.get("attempts")
    return int(attempts) if isinstance(attempts, int | float) and attempts > 0 else None


def _moment(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
