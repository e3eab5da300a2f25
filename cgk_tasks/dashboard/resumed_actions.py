"""The rest of a long action whose process is gone, of whatever kind it is."""

from __future__ import annotations

from cgk_tasks.dashboard import group_actions, long_actions, match_actions
from cgk_tasks.dashboard.roles import User


def resume_action(user: User, action_id: int) -> int | None:
    """Do the rest of an action as an action of its own. Returns its number; None if there is nothing to resume: the
    action has ended, is under way, or somebody else has just resumed it.
    """
    return long_actions.resume(user, action_id, {**group_actions.RESTORE, **match_actions.RESTORE})
