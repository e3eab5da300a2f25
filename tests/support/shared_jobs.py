"""A job whose runs share transactions, for the workers of tests."""

import os
import signal
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cgk_tasks import JobContext, PermanentError, define_job, send_job
from cgk_tasks.events import TenantEvent
from tests.support.jobs import QUICK, note


class Share(TenantEvent, event="test.share"):
    action: str


class Base(DeclarativeBase):
    pass


class KeptApart(Base):
    __tablename__ = "kept_apart"
    id: Mapped[int] = mapped_column(primary_key=True)


@define_job("test-share", event=Share, retry=QUICK, transaction="shared")
def share(ctx: JobContext[Share]) -> object:
    action, _, argument = ctx.payload.action.partition(":")
    note(ctx)
    if action == "write_and_fail":
        raise PermanentError("no")
    if action == "die_once" and not Path(argument).exists():
        Path(argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "collide":
        ctx.db.execute(text("CREATE TABLE IF NOT EXISTS kept_apart (id int PRIMARY KEY)"))
        ctx.db.execute(text("INSERT INTO kept_apart VALUES (1)"))
        ctx.db.add(KeptApart(id=1))
        ctx.db.flush()
    if action == "checkpoint":
        ctx.checkpoint(1)
    if action == "step":
        ctx.step("one", int)
    if action == "send":
        return send_job(Share(tenant_id=ctx.tenant_id, action="write"), session=ctx.db).id
    return None
