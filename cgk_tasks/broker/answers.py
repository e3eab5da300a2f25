"""How a sender that waits for its run learns of the end at once: the worker calls, through a channel in Redis.

The message of a run that somebody waits for names the channel of the process that waits; for runs that nobody waits for
nothing is done. Whoever sends by Celery's API may wait later, in `AsyncResult.get()`: a process that has just waited
for a task expects to wait for its next ones, and has their messages name the channel.

A call is a hint alone: PostgreSQL has the end, and whoever waits looks there now and then anyway. So a call may be
lost, and there is none on other brokers, nor for a run that comes by another message than its sender's: one that waited
in a lane, or is tried again.

Who listens for the process reads the ends as well: those that are called at the same time with one statement.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import Any, Final
from uuid import uuid4

import psycopg
import redis

from cgk_tasks.broker.envelope import ANSWER_HEADER, answer_to
from cgk_tasks.broker.publisher import get_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import is_redis, redis_py_url
from cgk_tasks.errors import BrokerError, CgkTasksError
from cgk_tasks.logger import get_logger
from cgk_tasks.runs.ended import Ended, just_ended
from cgk_tasks.runtime import Part, current_runtime

log = get_logger("cgk_tasks.sender")

_CHANNEL: Final = "cgk:answers:"
_CONNECT_SECONDS: Final = 1.0
_LISTEN_SECONDS: Final = 5.0
_TRY_AGAIN_SECONDS: Final = 5.0
_WAITS_AGAIN_SECONDS: Final = 60.0
_MOST_FORESEEN: Final = 1_000
"""Those whose results nobody asks for are forgotten, the oldest first."""

_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class Answer:
    """Of one send. Set when the worker has called.

    run_id: set by whoever wants to have its end read at the call; then that is in `end`, if the run has ended and
    PostgreSQL said so. is_expected: whether a call can come.
    """

    def __init__(self, *, is_expected: bool = True) -> None:
        self.run_id: str | None = None
        self.is_expected = is_expected
        self.end: Ended | None = None
        self.has_come = False
        # No Event: a time limit that breaks a job's wait off could leave it locked, for who reads the channel as well.
        self._came: SimpleQueue[None] = SimpleQueue()
        self._then: Callable[[], object] | None = None

    def come(self, end: Ended | None = None) -> None:
        self.end, self.has_come = end, True
        self._came.put(None)
        if (then := self._then) is not None:
            then()

    def when_it_comes(self, then: Callable[[], object]) -> None:
        """Have this called, in another thread; also if it has come already, and then perhaps twice."""
        self._then = then
        if not self._came.empty():
            then()

    def wait(self, seconds: float) -> None:
        """Until it comes, or so long; not at all if it has come since the last wait."""
        with suppress(Empty):
            self._came.get(timeout=seconds)


class Answers:
    """Those that a process waits for: on one connection, which a thread reads."""

    def __init__(self, url: str, prefix: str) -> None:
        self._client = redis.Redis.from_url(
            redis_py_url(url), socket_connect_timeout=_CONNECT_SECONDS, health_check_interval=25
        )
        self._channel = f"{prefix}{_CHANNEL}{uuid4()}"
        self._numbers = itertools.count()
        self._expected: dict[bytes, Answer] = {}
        self._foreseen: dict[bytes, Answer] = {}
        """By the ids of their runs."""
        self._is_listening, self._is_closed = threading.Event(), threading.Event()
        self._runtime = current_runtime()
        threading.Thread(target=self._listen, name="cgk-answers", daemon=True).start()

    @contextmanager
    def expected(self) -> Iterator[Answer]:
        """What is sent within the block is answered, unless nobody listens here yet: then it is looked for."""
        if not (self._is_listening.is_set() or self._is_listening.wait(_CONNECT_SECONDS)):
            yield Answer(is_expected=False)
            return
        answer, number = Answer(), str(next(self._numbers))
        self._expected[number.encode()] = answer
        token = answer_to.set(f"{self._channel} {number}")
        try:
            yield answer
        finally:
            answer_to.reset(token)
            self._expected.pop(number.encode(), None)

    @contextmanager
    def foreseen(self, run_id: str) -> Iterator[None]:
        """What is sent within the block, which is this run, is answered; `find_foreseen` gives the answer. Waits for
        nothing.
        """
        if not self._is_listening.is_set():
            yield
            return
        foreseen = self._foreseen
        foreseen[run_id.encode()] = Answer()
        while len(foreseen) > _MOST_FORESEEN:
            with suppress(RuntimeError):  # another thread has added one between the two steps
                foreseen.pop(next(iter(foreseen), b""), None)
        token = answer_to.set(f"{self._channel} {run_id}")
        try:
            yield
        finally:
            answer_to.reset(token)

    def find_foreseen(self, run_id: str) -> Answer | None:
        """The answer of a run that was sent so; None of another."""
        return self._foreseen.get(run_id.encode())

    def forget_foreseen(self, run_id: str) -> None:
        """Nobody waits for the run any more."""
        self._foreseen.pop(run_id.encode(), None)

    def close(self) -> None:
        self._is_closed.set()
        self._client.close()

    def _listen(self) -> None:
        while not self._is_closed.is_set():
            try:
                with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis-py has no types here
                    pubsub.subscribe(self._channel)
                    while not self._is_closed.is_set():
                        self._take(self._messages(pubsub))
            except (redis.RedisError, OSError, ValueError):  # ValueError: it was closed amid a read
                pass  # until it listens again, whoever waits looks
            except Exception:  # an end of this thread would leave the others waiting for calls
                if not self._is_closed.is_set():
                    log.exception("answers_failed")
            self._is_listening.clear()
            self._is_closed.wait(_TRY_AGAIN_SECONDS)

    def _messages(self, pubsub: Any) -> Iterator[Mapping[str, Any]]:
        """The next one, and those that are there already. None if there is none for some time."""
        message = pubsub.get_message(timeout=_LISTEN_SECONDS)
        while message is not None:
            yield message
            if len(self._expected) <= 1:
                return  # nobody else waits
            message = pubsub.get_message(timeout=0)

    def _take(self, messages: Iterable[Mapping[str, Any]]) -> None:
        called = []
        for message in messages:
            if message["type"] == "subscribe":
                self._is_listening.set()
            elif (answer := self._expected.get(message["data"]) or self._foreseen.get(message["data"])) is not None:
                called.append(answer)
        if called:
            with self._runtime.active():
                ends = _ends_of(called)
            for answer in called:
                answer.come(ends.get(answer.run_id or ""))


def _ends_of(called: Iterable[Answer]) -> Mapping[str, Ended]:
    """Of those whose runs are known. Nothing if PostgreSQL does not say: whoever waits asks it again."""
    ids = [answer.run_id for answer in called if answer.run_id is not None]
    try:
        return just_ended(ids) if ids else {}
    except (psycopg.Error, CgkTasksError):
        return {}


def _new_answers() -> Answers | None:
    settings = get_settings()
    return Answers(settings.broker, settings.key_prefix) if is_redis(settings.broker) else None


def _close(answers: Answers | None) -> None:
    if answers is not None:
        answers.close()


ANSWERS: Final[Part[Answers | None]] = Part(_new_answers, close=_close)


@contextmanager
def expected() -> Iterator[Answer]:
    """An answer to what is sent within the block. It may never come."""
    answers = ANSWERS.current()
    if answers is None:
        yield Answer(is_expected=False)
        return
    with answers.expected() as answer:
        yield answer


WAITED_FOR: Final[Part[dict[str, float]]] = Part(dict)
"""The tasks for whose results this process waits, by name, each with the time until which that is expected."""


def waits_for(name: str) -> None:
    """Say that this process waits for a result of the task, and so may wait for the next one, too."""
    WAITED_FOR.current()[name] = time.monotonic() + _WAITS_AGAIN_SECONDS
    ANSWERS.current()  # it listens by then


def foreseen(name: str, run_id: str) -> AbstractContextManager[None]:
    """An answer to the run that is sent within the block, if this process waits for runs of its name."""
    waited_for = WAITED_FOR.current()
    if not waited_for or waited_for.get(name, 0.0) < time.monotonic() or (answers := ANSWERS.current()) is None:
        return _NOTHING
    return answers.foreseen(run_id)


@contextmanager
def of_run(run_id: str) -> Iterator[Answer | None]:
    """The answer of a run for which somebody waits within the block; None, if it was sent without expecting that."""
    answers = ANSWERS.current() if WAITED_FOR.current() else None
    if answers is None:
        yield None
        return
    try:
        yield answers.find_foreseen(run_id)
    finally:
        answers.forget_foreseen(run_id)


def call_back(headers: Mapping[str, Any]) -> None:
    """Call the sender of a message, if it waits: what its run came to is on record."""
    asked = headers.get(ANSWER_HEADER)
    if not isinstance(asked, str):
        return
    channel, _, number = asked.rpartition(" ")
    if not channel.startswith(f"{get_settings().key_prefix}{_CHANNEL}"):
        return  # whoever can write to the broker can write anything
    with suppress(BrokerError):  # the sender looks too
        get_publisher().call(channel, number)
