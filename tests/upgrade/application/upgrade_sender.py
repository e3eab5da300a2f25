"""A sender of the upgrade tests: sends in rounds until SIGTERM, and notes what was accepted and what must come of it.

upgrade_sender.py FILE: a line of JSON for each accepted send, written after it has returned.
"""

import json
import signal
import sys
import threading
import time
import traceback
from collections import deque
from itertools import count
from pathlib import Path

import upgrade_jobs
from celery import chain, chord
from upgrade_jobs import SIDE, Both, Flaky, Hopeless, Limited, Long, Sends, Steps, Write, add, total

from cgk_tasks import (
    SendItem,
    SendOptions,
    cancel_job,
    get_job_status,
    retry_job,
    schedule_job,
    send_job,
    send_jobs,
    tenant_context,
    trigger_and_wait,
)

TENANTS = ("acme", "globex", "initech")
ROUNDS_UNDER_WAY = 3
"""So many rounds may be open: the load follows the workers, however fast the machine is."""

stopping = threading.Event()


class Sender:
    def __init__(self, path: Path) -> None:
        self._record = path.open("a", buffering=1)
        self._open: deque[str] = deque()
        self._failed: str | None = None
        self._long: str | None = None

    def run(self) -> None:
        for number in count():
            self._wait_for_the_earliest_round()
            if stopping.is_set():
                break
            self._round(f"{SIDE}-{number}", TENANTS[number % len(TENANTS)])
        self._cancel_long(wait=True)

    def _wait_for_the_earliest_round(self) -> None:
        """Half a second at least, so that most of a machine is left to the workers."""
        stopping.wait(0.5)
        while len(self._open) >= ROUNDS_UNDER_WAY and not stopping.is_set():
            if get_job_status(self._open[0]).is_closed:
                self._open.popleft()
            else:
                stopping.wait(0.05)

    def _round(self, key: str, tenant: str) -> None:
        def own(event, name):
            return event(tenant_id=tenant, sender=SIDE, key=f"{key}-{name}")

        self._accepted(send_job(own(Write, "single")), "upgrade.write", rows=[f"{key}-single"])
        self._bulk(key)
        self._accepted(
            schedule_job(own(Write, "delayed"), delay=1.5, priority=9), "upgrade.write", rows=[f"{key}-delayed"]
        )
        self._accepted(
            send_job(own(Both, "both")), "upgrade.both", runs=3, rows=[f"{key}-both-first", f"{key}-both-second"]
        )
        self._accepted(send_job(own(Flaky, "flaky")), "upgrade.flaky", tries=2, rows=[f"{key}-flaky"])
        self._accepted(
            send_job(own(Steps, "steps")), "upgrade.steps", tries=2, rows=[f"{key}-steps-{step}" for step in range(3)]
        )
        self._accepted(send_job(own(Limited, "limited")), "upgrade.limited", rows=[f"{key}-limited"])
        sends = send_job(own(Sends, "sends"))
        self._accepted(sends, "upgrade.sends", rows=[f"{key}-sends", f"{key}-sends-follower"], follower="upgrade.write")
        self._open.append(sends.id)
        self._keys()
        if SIDE == "new":
            self._accepted(send_job(own(upgrade_jobs.Added, "added")), "upgrade.added", rows=[f"{key}-added"])
        self._hopeless(own(Hopeless, "hopeless"))
        self._canvas(tenant)
        self._cancels(own(Write, "cancelled"), own(Long, "long"))
        waited = own(Write, "waited")
        result = trigger_and_wait(waited, timeout=600.0)  # the test itself decides how long is too long
        self._note(id=result.run_id, event="upgrade.write", rows=[waited.key])
        if result.unwrap() != waited.key:
            raise AssertionError(f"{result} is not {waited.key}")

    def _bulk(self, key: str) -> None:
        events = [
            Write(tenant_id=TENANTS[number % 3], sender=SIDE, key=f"{key}-bulk-{number}", seconds=0.005)
            for number in range(8)
        ]
        handles = send_jobs([SendItem(event, options=SendOptions(priority=3)) for event in events])
        for event, handle in zip(events, handles, strict=True):
            self._accepted(handle, "upgrade.write", rows=[event.key])

    def _keys(self) -> None:
        """Both sides send the same keys, while they last half a second each: the first one's run is the only one."""
        key = f"shared-{int(time.time() * 2)}"
        event = Write(tenant_id="acme", sender="either", key=key)
        for _ in range(2):
            self._accepted(send_job(event, idempotency_key=key), "upgrade.write", rows=[key], shared=key)

    def _hopeless(self, event: Hopeless) -> None:
        if self._failed is None:
            handle = send_job(event)
            self._failed = handle.id
            self._accepted(handle, "upgrade.hopeless", state="failed")
        elif get_job_status(self._failed).is_closed:
            self._accepted(retry_job(self._failed), "upgrade.hopeless", state="failed")
            self._failed = None

    def _canvas(self, tenant: str) -> None:
        with tenant_context(tenant):
            chained = chain(add.s(1, 2, SIDE), add.s(3, SIDE), add.s(4, SIDE)).delay()
            self._note(id=chained.id, event="upgrade.add", runs=3, result=10)
            summed = chord([add.s(number, number, SIDE) for number in range(3)])(total.s(SIDE))
            self._note(id=summed.id, event="upgrade.total", result=6)
            self._note(event="upgrade.add", runs=3)

    def _cancels(self, event: Write, long: Long) -> None:
        waiting = schedule_job(event, delay=600)
        self._accepted(waiting, "upgrade.write", state="cancelled", tries=0)
        cancel_job(waiting.id)
        if self._long is None:
            handle = send_job(long)
            self._long = handle.id
            self._accepted(handle, "upgrade.long", state="cancelled", tries=None)
        else:
            self._cancel_long(wait=False)

    def _cancel_long(self, *, wait: bool) -> None:
        """Only once it runs, except at the end."""
        if self._long is not None and (wait or get_job_status(self._long).state == "running"):
            cancel_job(self._long)
            self._long = None

    def _accepted(self, handle, event: str, **expected) -> None:
        self._note(id=handle.id, event=event, **expected)

    def _note(self, **line) -> None:
        self._record.write(json.dumps(line) + "\n")

    def failed(self) -> None:
        self._note(error=traceback.format_exc())


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    sender = Sender(Path(sys.argv[1]))
    try:
        sender.run()
    except BaseException:
        sender.failed()
        raise


if __name__ == "__main__":
    main()
