"""The cursor of a job that goes through pages: where it is, how much it has done, and whether there is more."""

from __future__ import annotations

from typing import Any, TypedDict, cast


class CursorState(TypedDict):
    """A JSON object, for `ctx.checkpoint`. position: of the last page, None before the first one."""

    position: Any
    processed: int
    has_more: bool


def create_cursor_state(saved: object = None) -> CursorState:
    """The state that an attempt goes on with: the one that an earlier attempt saved, else that before the first page.

        state = create_cursor_state(ctx.cursor)
        while state["has_more"]:
            page = load_page(after=state["position"])
            save(ctx.db, page)
            state = update_cursor_state(state, page.last_id, processed=len(page), has_more=page.has_more)
            ctx.checkpoint(state)

    A job that needs no count may give `ctx.checkpoint` the position alone.
    """
    return CursorState(position=None, processed=0, has_more=True) if saved is None else cast("CursorState", saved)


def update_cursor_state(
    state: CursorState, position: object, *, processed: int = 0, has_more: bool = True
) -> CursorState:
    """The state after a page.

    position: where the next one begins, any JSON value. processed: how many items the page had; they are added up.
    has_more: whether another page follows.
    """
    return CursorState(position=position, processed=state["processed"] + processed, has_more=has_more)
