"""What is done with runs that somebody chose in the list: each as the button of its own page would do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cgk_tasks.dashboard import actions
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import RunError, SendError, TenantError

MOST_SELECTED: Final = 200

_DONE: Final = {"retry": "retried", "cancel": "cancelled"}


def on_selected(user: User, kind: str, ids: Sequence[str]) -> str:
    """Retry or cancel them one after another. Returns how many were, and why the others were not.

    A run that is not in the state for it, or whose tenant may send no more, is left alone. Raises StoreError, and then
    those before it are done.
    """
    refused: list[str] = []
    action: Callable[[User, str], object] = actions.retry if kind == "retry" else actions.cancel
    for run_id in ids:
        try:
            action(user, run_id)
        except (RunError, SendError, TenantError) as exc:
            refused.append(str(exc))
    done = len(ids) - len(refused)
    said = f"{done} {'run' if done == 1 else 'runs'} {_DONE[kind]}."
    return f"{said} {len(refused)} could not be: {refused[0]}" if refused else said
