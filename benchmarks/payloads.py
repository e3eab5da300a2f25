"""What large payloads cost: how fast they are drained, and what PostgreSQL writes and keeps of them.

The job returns its payload, so that each run has a result of the same size. There are two kinds: orders as a shop sends
them, in which PostgreSQL finds much to compress, and text of random bytes, as of images, in which it finds nothing.
`python benchmarks/run.py --only payloads` prints the table.
"""

from __future__ import annotations

import base64
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping

from draining import COMPLETED, SPAN
from harness import OURS, PACKETS, TENANT, Plan, Table, Worker, clear, setting
from jobs import Basket, Weighty
from pydantic import JsonValue

from cgk_tasks import TenantEvent, send_jobs
from cgk_tasks.sql.postgres import autocommit

KILOBYTES = (1, 10, 100)

_WRITTEN = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"
_KEPT = """
SELECT sum(pg_total_relation_size(c.oid))::float8 FROM pg_class c
 WHERE c.relnamespace = 'cgk'::regnamespace AND c.relkind = 'r'
   AND (c.relname = 'runs' OR starts_with(c.relname, 'run_history') OR starts_with(c.relname, 'run_bodies'))
"""
_WORDS = ("red", "blue", "cotton", "shirt", "large", "ceramic", "mug", "travel", "bottle", "steel", "leather", "wallet")
_BYTES_OF_AN_ITEM = 240


def measure(plan: Plan) -> Table:
    return Table(
        "payloads",
        "Large payloads and results",
        "A payload and a result of about so many kB for each run: orders with their items, as JSON, or random bytes in "
        "base64. *Written*: WAL from the send to the end. *Kept*: what the tables of open runs, of the history and of "
        "large payloads have grown by.",
        ("what", "kB", "runs", "sent", "drained", "written a run", "kept a run"),
        [_row(what, kilobytes, plan) for kilobytes in KILOBYTES for what in _KINDS],
    )


def _row(what: str, kilobytes: int, plan: Plan) -> list[str]:
    count = max(20, min(plan.backlog, plan.payload_bytes // (kilobytes * 1000)))
    event, make = _KINDS[what]
    clear()
    with setting(*PACKETS), autocommit() as connection:

        def figure(statement: str) -> float:
            return float(connection.execute(statement).fetchone()[0])

        written, kept = figure(_WRITTEN), figure(_KEPT)
        begun = time.perf_counter()
        send_jobs(make(kilobytes * 1000) for _ in range(count))
        sent = count / (time.perf_counter() - begun)
        with Worker(*OURS) as worker:
            worker.wait(lambda: connection.execute(COMPLETED, (event,)).fetchone()[0] == count)
        begun_at, ended_at = connection.execute(SPAN, (event,)).fetchone()
        written, kept = figure(_WRITTEN) - written, figure(_KEPT) - kept
    return [
        what, f"{kilobytes:,}", f"{count:,}", f"{sent:,.0f}/s", f"{count / (ended_at - begun_at):,.0f}/s",
        f"{written / count / 1e3:,.1f} kB", f"{kept / count / 1e3:,.1f} kB",
    ]  # fmt: skip


def _media(size: int) -> TenantEvent:
    return Weighty(tenant_id=TENANT, text=base64.b64encode(os.urandom(size * 3 // 4)).decode())


def _order(size: int) -> TenantEvent:
    return Basket(
        tenant_id=TENANT,
        order={
            "orderId": os.urandom(16).hex(), "currency": "EUR", "email": f"u{random.randrange(10**7)}@example.com",
            "address": {"street": f"{random.randrange(300)} Mill Lane", "zip": f"{random.randrange(10**5):05}"},
            "lineItems": list(_items(max(1, size // _BYTES_OF_AN_ITEM))),
        },
    )  # fmt: skip


def _items(count: int) -> Iterator[dict[str, JsonValue]]:
    for _ in range(count):
        quantity, price = random.randint(1, 5), random.randrange(99, 30_000) / 100
        yield {
            "id": random.randrange(10**13), "sku": f"SKU-{random.randrange(10**6):06}", "quantity": quantity,
            "title": " ".join(random.choices(_WORDS, k=4)), "unitPrice": price, "total": round(quantity * price, 2),
            "taxRate": 0.19, "discounts": [], "properties": {"giftWrap": random.random() < 0.1, "engraving": None},
            "fulfillmentStatus": "unfulfilled",
        }  # fmt: skip


_KINDS: Mapping[str, tuple[str, Callable[[int], TenantEvent]]] = {
    "orders": ("bench.basket", _order),
    "random bytes": ("bench.weighty", _media),
}
