"""When an open page is told that something has changed, and how often is looked for that."""

import asyncio
import logging

import pytest

from cgk_tasks.dashboard import live_pages
from cgk_tasks.dashboard.live_marks import PACES, Topic
from cgk_tasks.dashboard.live_pages import LivePages, TooManyOpenError, Watcher
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.sql.looking import Looks

RUN = Topic("run", "r")
LEAST, STALE = PACES["run"].least, PACES["run"].stale


def is_told(watcher):
    return asyncio.run(watcher.changed(0))


@pytest.fixture
def watcher():
    """It was told at 100.0."""
    made = Watcher(RUN)
    made.found("a", 100.0)
    assert is_told(made)
    return made


def test_who_comes_is_told_by_the_first_look():
    """The page was made before: what has changed meanwhile would never be shown."""
    watcher = Watcher(RUN)
    assert not is_told(watcher)
    watcher.found("a", 100.0)
    assert is_told(watcher)


def test_who_has_seen_it_is_told_of_changes_alone():
    watcher = Watcher(RUN, "a", 100.0)
    watcher.found("a", 100.0 + LEAST)
    before = is_told(watcher)
    watcher.found("b", 100.0 + LEAST)
    assert (before, is_told(watcher)) == (False, True)


def test_what_has_not_changed_is_not_told(watcher):
    watcher.found("a", 100.0 + LEAST)
    assert not is_told(watcher)


def test_a_change_is_told_once(watcher):
    watcher.found("b", 100.0 + LEAST)
    assert is_told(watcher)
    watcher.found("b", 100.0 + 2 * LEAST)
    assert not is_told(watcher)


def test_a_change_that_comes_too_soon_is_told_later(watcher):
    watcher.found("b", 100.0 + LEAST / 2)
    early = is_told(watcher)
    watcher.found("b", 100.0 + LEAST)
    assert (early, is_told(watcher)) == (False, True)


def test_a_page_of_which_nothing_was_found_is_left_alone(watcher):
    watcher.found(None, 100.0 + LEAST)
    assert not is_told(watcher)


def test_a_page_that_is_old_is_told_though_nothing_has_changed(watcher):
    watcher.found("a", 100.0 + STALE)
    assert is_told(watcher)


def test_many_changes_before_one_is_sent_are_one(watcher):
    for number in range(1, 5):
        watcher.found(str(number), 100.0 + number * LEAST)
    assert (is_told(watcher), is_told(watcher)) == (True, False)


def test_one_that_is_ended_is_told_nothing_more(watcher):
    watcher.found("b", 100.0 + LEAST)
    watcher.end()
    assert (is_told(watcher), watcher.is_over) == (False, True)


def test_more_pages_of_a_user_than_there_may_be_are_refused(monkeypatch):
    monkeypatch.setattr(live_pages, "MOST_OF_A_USER", 2)
    monkeypatch.setattr(live_pages, "marks", lambda _topics: {})

    async def opened():
        pages = LivePages()
        with pages.open(Watcher(RUN), "ada"), pages.open(Watcher(RUN), "oscar"):
            with pages.open(Watcher(RUN), "ada"), pytest.raises(TooManyOpenError):
                pages.open(Watcher(RUN), "ada").__enter__()
            with pages.open(Watcher(RUN), "ada"):
                return len(pages)

    assert asyncio.run(opened()) == 3


def test_more_pages_of_all_users_than_there_may_be_are_refused(monkeypatch):
    monkeypatch.setattr(live_pages, "MOST", 1)
    monkeypatch.setattr(live_pages, "marks", lambda _topics: {})

    async def opened():
        pages = LivePages()
        with pages.open(Watcher(RUN), "ada"), pytest.raises(TooManyOpenError):
            pages.open(Watcher(RUN), "oscar").__enter__()

    asyncio.run(opened())


def test_of_many_searches_some_are_looked_at_and_then_the_others(monkeypatch):
    looked = []
    monkeypatch.setattr(live_pages, "marks", lambda topics: looked.append({topic.of for topic in topics}) or {})
    pages = LivePages()
    many = tuple(Watcher(Topic("runs", f"tenant:{number}")) for number in range(live_pages.MOST_SEARCHES + 2))
    for _ in range(2):
        pages._look(many)
    assert [len(found) for found in looked] == [live_pages.MOST_SEARCHES] * 2
    assert looked[0] | looked[1] == {watcher.topic.of for watcher in many}


def test_what_several_pages_show_is_looked_for_once(monkeypatch):
    looked = []
    monkeypatch.setattr(live_pages, "marks", lambda topics: looked.append(list(topics)) or {})
    LivePages()._look((Watcher(RUN), Watcher(RUN)))
    assert looked == [[RUN]]


# The loop that the gateway has too


class Source:
    """Counts looks. errors: raised by the first ones."""

    def __init__(self, *errors):
        self.errors, self.looks, self.told = list(errors), 0, asyncio.Event()

    def look(self, watchers):
        self.looks += 1
        if self.errors:
            raise self.errors.pop(0)
        return len(watchers)

    def tell(self, watchers, found):
        assert found == len(watchers)
        self.told.set()

    @property
    def of_it(self):
        async def at_once(function):
            return function()

        away = RecurringWarning(logging.getLogger("test"), "away", "back", remind_seconds=0)
        away.warn = lambda **fields: self.__dict__.setdefault("said", []).append(fields)
        return Looks(self.look, self.tell, every_seconds=0.01, in_thread=at_once, away=away, reason=str)


def test_nobody_looks_before_somebody_watches_and_after_the_last_has_left():
    async def watched():
        source = Source()
        looks = source.of_it
        before = source.looks
        with looks.open("a"):
            await asyncio.wait_for(source.told.wait(), 20)
        await asyncio.wait_for(looks._task, 20)
        return before, len(looks)

    assert asyncio.run(watched()) == (0, 0)


def test_who_comes_after_the_last_has_left_is_looked_for_again():
    async def watched():
        source = Source()
        looks = source.of_it
        for _ in range(2):
            with looks.open("a"):
                await asyncio.wait_for(source.told.wait(), 20)
            source.told.clear()
            await asyncio.wait_for(looks._task, 20)
        return source.looks

    assert asyncio.run(watched()) >= 2


def test_a_look_that_fails_is_made_up_for_by_the_next_one():
    async def watched():
        source = Source(OSError("PostgreSQL is away"), OSError("still"))
        with source.of_it.open("a"):
            await asyncio.wait_for(source.told.wait(), 20)
        return source.said

    assert [one["reason"] for one in asyncio.run(watched())] == ["PostgreSQL is away", "still"]
