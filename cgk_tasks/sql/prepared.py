"""What is prepared on a connection by libpq itself, beside what the driver prepares."""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg


class Prepared:
    """What is prepared on a connection, as far as is known: psycopg lets go of everything there after a rollback, and
    a send can be interrupted before its answer.

    Then names are others, so that none can be there already.
    """

    def __init__(self) -> None:
        self.names: set[bytes] = set()
        self._asked_for: set[bytes] = set()
        self._generation = 0

    def name(self, label: str) -> tuple[bytes, bool]:
        """The name of a statement, and whether it has to be prepared first."""
        name = self._named(label)
        if name in self.names:
            return name, False
        if name in self._asked_for:
            self.forget()
            name = self._named(label)
        self._asked_for.add(name)
        return name, True

    def _named(self, label: str) -> bytes:
        return f"cgk_tasks.{label}.{self._generation}".encode()

    def forget(self) -> None:
        self._generation += 1
        self.names.clear()
        self._asked_for.clear()


_prepared: Final[WeakKeyDictionary[psycopg.Connection[Any], Prepared]] = WeakKeyDictionary()


def prepared_on(connection: psycopg.Connection[Any]) -> Prepared:
    found = _prepared.get(connection)
    if found is None:
        found = _prepared[connection] = Prepared()
    return found
