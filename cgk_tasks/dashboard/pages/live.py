"""The stream of Server-Sent Events that tells an open page to show itself anew."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from typing import Final, cast

import psycopg
import sqlalchemy as sa
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from cgk_tasks.dashboard.live_marks import PACES, Topic, can_be_read
from cgk_tasks.dashboard.live_pages import MOST, MOST_OF_A_USER, LivePages, TooManyOpenError, Watcher
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.runs.models import is_queue_name

HEARTBEAT_SECONDS: Final = 15.0
"""Less than any proxy waits for more."""
CHECK_SECONDS: Final = 15.0
"""How often it is looked whether the user is logged in still, and has the role of before."""
_NUMBER: Final = re.compile("[1-9][0-9]{0,17}")
_WITHOUT_NAMES: Final = ("overview", "workers")
_SLOW_SECONDS: Final = 30.0
_COME_BACK_MS: Final = 3_000
_TRY_AGAIN_SECONDS: Final = 60.0


class LiveStream(Page):
    """`/live?about=run&of=ID`, `about=runs&of=SEARCH`, `about=queue&of=NAME`, `about=action&of=NUMBER`,
    `about=overview`, `about=workers`. `seen`: the mark of the page that the browser has.
    """

    _watcher: Watcher | None = None

    async def get(self) -> None:
        topic = self._topic()
        watcher = self._watcher = Watcher(topic, self.field("seen"), time.monotonic())
        pages = cast("LivePages", self.application.live)  # type: ignore[attr-defined]
        try:
            with pages.open(watcher, self.user.name):
                await self._tell(watcher)
        except TooManyOpenError:
            self._retry_after = _TRY_AGAIN_SECONDS
            said = f"{MOST_OF_A_USER} pages of one user follow what they show already, or {MOST} of all."
            raise HTTPError(429, said) from None

    def _topic(self) -> Topic:
        """Raises HTTPError 400."""
        about, of = self.field("about"), self.get_argument("of", "", strip=False)
        if about not in PACES:
            raise HTTPError(400, f"about must be one of {', '.join(PACES)}.")
        if about == "run":
            try:
                of = str(uuid.UUID(of))
            except ValueError:
                raise HTTPError(400, "of must be the id of a run.") from None
        if about == "action" and not _NUMBER.fullmatch(of):
            raise HTTPError(400, "of must be the number of an action.")
        if (about == "queue" and not is_queue_name(of)) or (about == "runs" and not can_be_read(of)):
            raise HTTPError(400, "of must be the name of a queue." if about == "queue" else "of must be a search.")
        return Topic(about, "" if about in _WITHOUT_NAMES else of)

    async def _tell(self, watcher: Watcher) -> None:
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("X-Accel-Buffering", "no")  # nginx would keep messages until it has many
        check_at = time.monotonic() + CHECK_SECONDS
        text = f"retry: {_COME_BACK_MS}\n\n"
        while not watcher.is_over and await self._sent(text):
            left = check_at - time.monotonic()
            text = "data: changed\n\n" if await watcher.changed(min(HEARTBEAT_SECONDS, left)) else ":\n\n"
            if time.monotonic() >= check_at:
                if not await self._may_go_on():
                    return
                check_at = time.monotonic() + CHECK_SECONDS

    async def _sent(self, text: str) -> bool:
        """Whether the client has taken it, and everything before."""
        self.write(text)
        try:
            await asyncio.wait_for(self.flush(), _SLOW_SECONDS)
        except (StreamClosedError, TimeoutError):
            return False
        return True

    async def _may_go_on(self) -> bool:
        """Whether the session has not ended. Where that cannot be known, the client has to come again."""
        try:
            return await self.authentication.user(self) == self.user
        except (psycopg.Error, sa.exc.SQLAlchemyError, CgkTasksError, HTTPError):
            return False

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._watcher is not None:
            self._watcher.end()
