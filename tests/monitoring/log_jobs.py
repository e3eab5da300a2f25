"""Jobs that log in every way that there is."""

import logging
import os
import sys
import threading

import redis
import structlog

from cgk_tasks import JobContext, RetryConfig, RetryLater, TransientError, define_job
from cgk_tasks.config import get_settings
from cgk_tasks.events import TenantEvent
from cgk_tasks.events.fields import Email, MessageText, PersonalData, PhoneNumber
from cgk_tasks.runs import logs

TWICE = RetryConfig(max_attempts=2, initial_delay=0.05, max_delay=0.1)


class Talk(TenantEvent, event="test.talk"):
    """Asks for lines."""

    how: str
    lines: int = 1
    email: Email = ""
    profile: PersonalData | None = None


class Text(TenantEvent, event="test.text"):
    """A text to send."""

    message: MessageText
    to: PhoneNumber


@define_job("test-text", event=Text)
def send_text(ctx: JobContext[Text]) -> None:
    message = f"sent {ctx.payload.message} at once"
    ctx.logger.info(message, to=ctx.payload.to)


@define_job("test-talk", event=Talk, retry=TWICE)
def talk(ctx: JobContext[Talk]) -> None:
    WAYS[ctx.payload.how](ctx)


@define_job("test-talk-async", event="order.delivered", retry=TWICE)
async def talk_async(ctx: JobContext) -> None:
    ctx.logger.info("from a coroutine", order=ctx.payload.order_id)


def _all(ctx):
    ctx.logger.info("by the context", amount=12.5, items=["a", "b"])
    structlog.get_logger("shop.orders").warning("by structlog", order="o-1")
    logging.getLogger("shop.stock").info("by %s", "logging")


def _print(ctx):
    print("printed for", ctx.payload.email)
    sys.stderr.write("written to stderr\nand not ended")


def _quote(ctx):
    payload = ctx.payload
    message = f"sent to {payload.email}"
    ctx.logger.info(message, email=payload.email, note=f"for {payload.profile['street']}", count=3)
    logging.getLogger("shop").warning("payload %r", payload)
    try:
        raise ValueError(f"no such address: {payload.email}")
    except ValueError:
        ctx.logger.exception("failed quietly")


def _many(ctx):
    for number in range(ctx.payload.lines):
        ctx.logger.info("a line", number=number, padding="x" * 100)


def _many_twice(ctx):
    _many(ctx)
    if ctx.attempt == 1:
        raise TransientError("again")


def _snoozing(ctx):
    ctx.logger.info("not yet", attempt_number=ctx.attempt)
    if ctx.cursor is None:
        ctx.checkpoint("seen")
        raise RetryLater(0.05)


def _odd(ctx):
    ctx.logger.info(
        "odd \0 \ud800", value=object(), number=float("nan"), huge=10**5000, deep={"a": {"b": [1, {"c": None}]}}
    )


def _fails(ctx):
    ctx.logger.info("about to fail")
    raise TransientError(f"for {ctx.payload.email}")


def _hangs(ctx):
    """The first time it never ends."""
    ctx.logger.info("about to hang", email=ctx.payload.email)
    if redis.Redis.from_url(get_settings().broker).incr(f"hangs:{ctx.run_id}") == 1:
        ctx.logger.info("hanging", pid=os.getpid())
        threading.Event().wait(120)


def _takes_seconds(ctx):
    """Logs until somebody has read a line of it."""
    ctx.logger.info("begun")
    number = 0
    while not any(line.message == "begun" for line in logs.lines(ctx.run_id)):
        ctx.logger.info("going on", number=number)
        number += 1
        threading.Event().wait(0.05)
    ctx.logger.info("seen", lines=number)


def _forks(ctx):
    ctx.logger.info("before")
    child = os.fork()
    if child == 0:
        ctx.logger.info("in the child")
        threading.Event().wait(1.5)
        os._exit(0)
    os.waitpid(child, 0)
    ctx.logger.info("after")


WAYS = {
    "hangs": _hangs, "takes_seconds": _takes_seconds, "forks": _forks,
    "all": _all, "print": _print, "quote": _quote, "many": _many, "many_twice": _many_twice, "snoozing": _snoozing,
    "odd": _odd, "nothing": lambda ctx: None, "fails": _fails,
}  # fmt: skip
