"""Many sends at once: `send_jobs` (one transaction, one pipelined publish) against a loop of `apply_async`."""

from __future__ import annotations

import time

from harness import PACKETS, Line, Plan, repeat, setting
from plain_app import app
from sends import ours_order, plain_order
from throughput import learn_run_times

from cgk_tasks import send_jobs


def measure(plan: Plan) -> list[Line]:
    count = plan.bulk
    learn_run_times()

    def plain() -> list[float]:
        task = app.tasks["do_nothing"]
        begun = time.perf_counter()
        for number in range(count):
            task.apply_async(kwargs=plain_order(number))
        return [count / (time.perf_counter() - begun)]

    def plain_in_batches() -> list[float]:
        task = app.tasks["do_nothing"]
        begun = time.perf_counter()
        with app.producer_pool.acquire() as producer, producer.batch(1_000):
            for number in range(count):
                task.apply_async(kwargs=plain_order(number), producer=producer)
        return [count / (time.perf_counter() - begun)]

    def ours() -> list[float]:
        begun = time.perf_counter()
        send_jobs(map(ours_order, range(count)))
        return [count / (time.perf_counter() - begun)]

    def ours_in_packets() -> list[float]:
        with setting(*PACKETS):
            return ours()

    medians = repeat(
        plan.repeats,
        {"plain": plain, "plain in batches": plain_in_batches, "ours": ours, "packets": ours_in_packets},
    )
    batched = f"bulk send of {count:,}, packets on; plain in a `Producer.batch` of Kombu"
    return [
        Line(f"bulk send of {count:,}, packets on", *medians["plain"], *medians["packets"], "/s", at_least=20.0),
        Line(batched, *medians["plain in batches"], *medians["packets"], "/s"),
        Line(f"bulk send of {count:,}, one id a message", *medians["plain"], *medians["ours"], "/s"),
    ]
