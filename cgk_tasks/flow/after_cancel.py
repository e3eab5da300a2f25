"""What follows when a send has cancelled runs. Those who know of more than runs say so here: Celery's canvas does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cgk_tasks.runs.ends import Closed

Follower = Callable[[Sequence["Closed"]], None]

_followers: Final[list[Follower]] = []


def tell(follower: Follower) -> None:
    """Have a function called with the runs that a send has cancelled, in the sender's transaction."""
    _followers.append(follower)


def follow(closed: Sequence[Closed]) -> None:
    for follower in _followers:
        follower(closed)
