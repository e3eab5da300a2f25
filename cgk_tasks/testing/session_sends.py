"""Sends with `session=` in a test without a broker: they count when the session's transaction commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

S = TypeVar("S")
_KEY = "cgk_sends_of_a_test"


class SessionSends(Generic[S]):
    """What was sent in a session's open transaction. `on_commit` is called with it, once it has committed."""

    def __init__(self, on_commit: Callable[[Sequence[S]], object]) -> None:
        self._on_commit = on_commit
        self._sends: list[tuple[S, list[SessionTransaction]]] = []

    @classmethod
    def of(cls, session: Session, on_commit: Callable[[Sequence[S]], object]) -> SessionSends[S]:
        """Those of a session, made at its first send."""
        from sqlalchemy import event

        found: SessionSends[S] | None = session.info.get(_KEY)
        if found is None:
            found = session.info[_KEY] = cls(on_commit)
            event.listen(session, "after_commit", found._committed)
            event.listen(session, "after_soft_rollback", found._rolled_back)
        if not session.in_transaction():
            session.begin()  # a send is part of a transaction, be it the first thing in it
        return found

    def add(self, session: Session, sends: Sequence[S]) -> None:
        """They go with the savepoints that are open now, if one of these is rolled back."""
        around = []
        transaction = session.get_nested_transaction()
        while transaction is not None and transaction.nested:
            around.append(transaction)
            transaction = transaction.parent
        self._sends += [(send, around) for send in sends]

    @property
    def waiting(self) -> list[S]:
        return [send for send, _around in self._sends]

    def _committed(self, session: Session) -> None:
        if not session.in_nested_transaction():  # else a savepoint was released; nothing is durable yet
            sends, self._sends = self.waiting, []
            self._on_commit(sends)

    def _rolled_back(self, _session: Session, ended: SessionTransaction) -> None:
        kept = self._sends if ended.nested else []
        self._sends = [(send, around) for send, around in kept if ended not in around]
