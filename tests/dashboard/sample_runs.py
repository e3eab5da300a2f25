"""Runs of the last hours for the browser: many runs of one tenant, failures of two kinds, a suspended tenant, a
schedule; a workflow that waits; a crowded queue.
"""

import random
import uuid
from datetime import UTC, datetime, timedelta

from cgk_tasks.admission.gates import WantedGate, gate_ids
from cgk_tasks.admission.passes import Passes
from cgk_tasks.runs.depths import note_depths
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit
from tests.support.counting import count_all, forget_all_counts
from tests.support.lanes import add_worker, claim, hold, ids_of, make_lane, note_used

EVENTS = (
    (
        "order.created",
        "send-receipt",
        lambda n: {"orderId": f"o-{4100 + n}", "customerId": f"c-{n % 40}", "totalAmount": 59.97},
    ),
    ("order.fulfilled", "tell-customer", lambda n: {"orderId": f"o-{4100 + n}", "fulfillmentId": f"f-{n}"}),
    ("product.sync", "sync-product", lambda n: {"productId": f"p-{n % 90}"}),
    ("payout.completed", "book-payout", lambda n: {"payoutId": f"pay-{n}", "creatorId": f"cr-{n % 7}"}),
    ("customer.created", "welcome", lambda n: {"customerId": f"c-{n}", "email": f"customer{n}@example.com"}),
)
TENANTS = ("acme", "globex", "initech", "umbrella", "wayne")
TRACEBACK = """Traceback (most recent call last):
  File "/app/cgk_tasks/worker/attempt.py", line 87, in _call
    value = job.handler(ctx)
  File "/app/shop/jobs/payouts.py", line 41, in book_payout
    account = ledger.account_of(ctx.payload.creator_id)
  File "/app/shop/ledger.py", line 112, in account_of
    raise PermanentError(f"no account for creator {creator_id}", code="ACCOUNT_NOT_FOUND")
cgk_tasks.errors.PermanentError: no account for creator cr-3"""


def id_at(moment):
    return str(uuid.UUID(f"{int(moment.timestamp() * 1000):012x}" + new_run_id().replace("-", "")[12:]))


def make_tenants():
    with autocommit() as connection:
        for name in TENANTS[3:]:
            connection.execute(
                "INSERT INTO cgk.tenants (id, isolation, schema_name) VALUES (%s, 'search_path', %s) "
                "ON CONFLICT DO NOTHING",
                [name, f"tenant_{name}"],
            )


def make_sample_runs(closed_run, open_run):
    """About 300 runs of the last hours. Returns the ids of some that the pages are about."""
    rng = random.Random(7)
    make_tenants()
    now = datetime.now(UTC)
    found = {}
    for number in range(180):
        event, job, payload = EVENTS[number % len(EVENTS)]
        age = rng.uniform(120, 6 * 3600)
        at = now - timedelta(seconds=age)
        failed = event == "payout.completed" and number % 3 == 0
        bad_mail = event == "customer.created" and number % 20 == 4
        common = {"tenant": rng.choice(TENANTS), "age": age, "payload": payload(number), "run_id": id_at(at),
        "job": job, "created_at": at,
                  "run_at": at, "handed_over_at": at + timedelta(milliseconds=2), "hand_overs": 1,
                  "started_at": at + timedelta(milliseconds=700 if failed else 40),
                  "closed_at": at + timedelta(seconds=rng.uniform(1, 3))}  # fmt: skip
        if failed:
            message = f"no account for creator cr-{number % 7}"
            run_id = closed_run(event, message=message, code="ACCOUNT_NOT_FOUND", errors=errors(at, message),
            attempt=2, max_attempts=5,
                                **common)  # fmt: skip
            found["failed"] = run_id
        elif bad_mail:
            closed_run(
                event,
                message=f"the mail server said 550: no mailbox customer{number}@example.com",
                code="SMTP_550",
                **common,
            )
        else:
            found["completed"] = closed_run(event, state="completed", result={"ok": True}, **common)
    for number in range(90):
        at = now - timedelta(seconds=600 - number * 5)
        found["flood"] = open_run(
            "product.sync", "wayne", payload={"productId": f"p-{number}"}, run_id=id_at(at), created_at=at, run_at=at,
            queue="cgk",
            handed_over_at=at,
        )  # fmt: skip
    for number in range(6):
        found["held"] = open_run(
            "order.created", "globex", "held", {"orderId": f"o-{9000 + number}", "totalAmount": 5}, queue="orders"
        )
    later = now + timedelta(hours=9)
    found["scheduled"] = open_run(
        "order.fulfilled",
        "acme",
        "scheduled",
        {"orderId": "o-9100", "fulfillmentId": "f-1"},
        queue="orders",
        run_at=later,
    )
    return found


def errors(at, message):
    import json

    first = {
        "attempt": 1,
        "kind": "transient",
        "code": "HTTP_502",
        "type": "HTTPError",
        "message": "the ledger answered 502",
        "began_at": (at + timedelta(milliseconds=40)).isoformat(),
        "at": (at + timedelta(milliseconds=200)).isoformat(),
        "traceback": "Traceback (most recent call last):\n  ...",
    }
    last = {
        "attempt": 2,
        "kind": "permanent",
        "code": "ACCOUNT_NOT_FOUND",
        "type": "PermanentError",
        "message": message,
        "began_at": (at + timedelta(milliseconds=700)).isoformat(),
        "at": (at + timedelta(milliseconds=900)).isoformat(),
        "traceback": TRACEBACK.replace("cr-3", message.rpartition(" ")[2]),
    }
    return json.dumps([first, last])


STEPS = (
    # name, kind, state, began and ended seconds ago, failed attempts
    ("reserve-stock", "step", "done", 5400, 5398.2, 0),
    ("charge-card", "effect", "done", 5398.2, 5391, 1),
    ("wait-for-packing", "event", "done", 5391, 2700, 0),
    ("book-carrier", "step", "failed", 2700, 2640, 3),
    ("book-other-carrier", "step", "done", 2640, 2637, 0),
    ("approve-extra-cost", "signal", "waiting", 2637, None, 0),
)


def make_sample_workflow(open_run, closed_run):
    """A workflow that waits for a decision; a step of it failed, and it has a child run."""
    now = datetime.now(UTC)
    sent = now - timedelta(seconds=5401)
    began = now - timedelta(seconds=2700.2)
    run_id = open_run(
        "order.created", "acme", "scheduled", {"orderId": "o-4711", "totalAmount": 59.97}, id_at(sent),
        queue="orders", job="ship-order", created_at=sent, run_at=now + timedelta(hours=20), started_at=began,
        attempt=3, handed_over_at=None,
    )  # fmt: skip
    with autocommit() as connection:
        for place, (name, kind, state, first, last, attempts) in enumerate(STEPS, 1):
            connection.execute(
                "INSERT INTO cgk.steps (run_id, name, nth, place, kind, state, tenant_id, attempts, awaits, wake_at,"
                " begun_at, ended_at) VALUES (%s, %s, 1, %s, %s, %s, 'acme', %s, %s, %s, %s, %s)",
                [
                    run_id, name, place, kind, state, attempts, ["approve-extra-cost"] if last is None else None,
                    now + timedelta(hours=20) if last is None else None, now - timedelta(seconds=first),
                    None if last is None else now - timedelta(seconds=last),
                ],
            )  # fmt: skip
    child = now - timedelta(seconds=5390)
    closed_run(
        "customer.created", state="completed", run_id=id_at(child), parent_id=run_id, job="tell-customer",
        created_at=child, run_at=child, started_at=child + timedelta(seconds=300),
        closed_at=child + timedelta(seconds=900),
    )  # fmt: skip
    return run_id


def make_sample_lanes(queue="exports"):
    """A crowded queue: a tenant floods it, another one is over a limit, a third waits for a gate's time."""
    make_tenants()
    add_worker(queue, 8)
    now = datetime.now(UTC)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET revision = '0026' WHERE name = 'w'")
        rules = {
            name: connection.execute(
                "INSERT INTO cgk.rules (name, job, event, kind, per, declared)"
                " VALUES (%s, 'sync-product', 'product.sync', %s, 'tenant', '{}')"
                " ON CONFLICT (name) DO UPDATE SET kind = EXCLUDED.kind RETURNING id",
                [f"sync-product/{name}/tenant", name],
            ).fetchone()[0]
            for name in ("at_once", "throttle")
        }
        places, bucket = gate_ids(
            connection,
            [
                WantedGate(rules["at_once"], "initech", at_once=1),
                WantedGate(rules["throttle"], "umbrella", rate=1, period=1800.0, burst=1),
            ],
        )
    hold(make_lane("wayne", queue=queue, event="order.created"), 400, since=now - timedelta(minutes=14))
    hold(make_lane("acme", queue=queue, event="order.created"), 12, since=now - timedelta(seconds=20))
    hold(make_lane("initech", places, queue=queue, event="product.sync"), 5, since=now - timedelta(minutes=3))
    hold(make_lane("umbrella", bucket, queue=queue, event="product.sync"), 6, since=now - timedelta(minutes=6))
    claim(ids_of(Passes(lambda event: 5.0).make()))
    rng = random.Random(5)
    shares = {"wayne": 110, "acme": 45, "initech": 28, "umbrella": 12, "globex": 9}
    for tenant, most in shares.items():
        is_quiet = [tenant == "wayne" and minute > 14 for minute in range(60)]
        busy = {minute: most * (0.25 if quiet else rng.uniform(0.6, 1.0)) for minute, quiet in enumerate(is_quiet)}
        note_used(queue, tenant, busy)
    return queue


def count_sample():
    """The runs of the sample are counted, and what tenants had of the workers."""
    forget_all_counts()
    for tenant, seconds in {"acme": 240.0, "globex": 95.0, "wayne": 900.0, "initech": 31.0}.items():
        note_used("cgk", tenant, dict.fromkeys(range(60), seconds / 60))
    note_depths()
    for minutes in range(60):
        note_depth("cgk", minutes, 90 - minutes, 600 - 8 * minutes)
        note_depth("orders", minutes, 6 + minutes % 7, 20 + minutes)
    count_all()


def note_depth(queue, minutes_ago, waiting, oldest):
    """A queue as it was so many minutes ago."""
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.queue_depths (seconds, queue, begin, waiting, oldest_seconds)"
            " VALUES (60, %s, date_trunc('minute', now()) - make_interval(mins => %s), %s, %s) ON CONFLICT DO NOTHING",
            [queue, minutes_ago, max(waiting, 1), max(oldest, 1.0)],
        )
