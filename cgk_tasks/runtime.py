"""What a process holds: settings, connections, the publisher, what it knows about tenants, the job client.

A module that needs such a thing declares a `Part`: how it is made, and how it is closed. A `Runtime` holds one of each,
made at first use. So this module imports nothing of the package, and a process loads only what it uses.

A process has a runtime of its own. A job client with settings of its own has another, which is the current one while
the client is at work: two clients, two databases. After a fork a runtime makes its parts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from os import getpid
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class Part(Generic[T]):
    """A thing of which each runtime holds one.

    `of_settings`: it goes when the settings are replaced. `survives_fork`: a forked child may use what it inherits;
    nothing with a connection, a thread or a lock may be that.
    """

    __slots__ = ("close", "make", "of_settings", "survives_fork")

    def __init__(
        self,
        make: Callable[[], T],
        *,
        close: Callable[[T], object] = lambda _made: None,
        of_settings: bool = True,
        survives_fork: bool = False,
    ) -> None:
        self.make, self.close = make, close
        self.of_settings, self.survives_fork = of_settings, survives_fork

    def current(self) -> T:
        """That of the current runtime."""
        runtime = _current.get()
        try:
            found: T = (runtime.kept if self.survives_fork else runtime.own())[self]
        except KeyError:
            pass
        else:
            return found
        return runtime.make(self)  # out here: an error of its own has not "happened during the handling" of another


class Runtime:
    """The parts that one process, or one client in it, works with."""

    __slots__ = ("_inherited", "_own", "_pid", "kept")

    def __init__(self) -> None:
        self.kept: dict[Part[Any], Any] = {}
        """Those that survive a fork."""
        self._own: dict[Part[Any], Any] = {}
        self._pid = getpid()
        self._inherited: list[dict[Part[Any], Any]] = []

    def make(self, part: Part[T]) -> T:
        """The part, made now. Raises whatever making it raises."""
        # Without a lock, which a factory that imports modules could hold for ever: of two threads one makes it in vain.
        with self.active():
            made = part.make()
        found: T = self._parts(part).setdefault(part, made)
        if found is not made:
            part.close(made)
        return found

    def put(self, part: Part[T], made: T) -> T | None:
        """Hold `made` from now on. Returns what was held before, which stays open."""
        before = self.take(part)
        self._parts(part)[part] = made
        return before

    def take(self, part: Part[T]) -> T | None:
        """Hold the part no longer; the next use makes another. Returns what was held, which stays open."""
        taken: T | None = self._parts(part).pop(part, None)
        return taken

    def drop(self, part: Part[Any]) -> None:
        """Close the part and hold it no longer."""
        if (made := self.take(part)) is not None:
            part.close(made)

    def renew(self) -> None:
        """Close what was made with the settings: they are others now."""
        for part in [part for parts in (self.kept, self._own) for part in parts if part.of_settings]:
            self.drop(part)

    def close(self) -> None:
        """Close everything."""
        for part in [part for parts in (self._own, self.kept) for part in parts]:
            self.drop(part)

    def _parts(self, part: Part[Any]) -> dict[Part[Any], Any]:
        return self.kept if part.survives_fork else self.own()

    def own(self) -> dict[Part[Any], Any]:
        """The parts that no other process shares. The only place that looks for a fork, and it asks for the process's
        id, because not every program that forks calls Python's hooks (uWSGI).
        """
        if self._pid != getpid():
            # Kept, for a connection that is thrown away says goodbye on the socket of the parent's.
            self._inherited.append(self._own)
            self._own, self._pid = {}, getpid()
        return self._own

    @contextmanager
    def active(self) -> Iterator[None]:
        """The current runtime for the length of a block, in this thread or asyncio task."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_OF_PROCESS: Final = Runtime()
_current: ContextVar[Runtime] = ContextVar("cgk_runtime", default=_OF_PROCESS)

current_runtime: Final = _current.get
"""The runtime that the settings, connections and senders of this moment belong to."""
