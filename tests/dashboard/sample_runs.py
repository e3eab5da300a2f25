"""Runs of the last hours for the browser: many runs of one tenant, failures of two kinds, a suspended tenant, a
schedule.
"""

import random
import uuid
from datetime import UTC, datetime, timedelta

from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit

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
        "at": (at + timedelta(milliseconds=200)).isoformat(),
        "traceback": "Traceback (most recent call last):\n  ...",
    }
    last = {
        "attempt": 2,
        "kind": "permanent",
        "code": "ACCOUNT_NOT_FOUND",
        "type": "PermanentError",
        "message": message,
        "at": (at + timedelta(milliseconds=900)).isoformat(),
        "traceback": TRACEBACK.replace("cr-3", message.rpartition(" ")[2]),
    }
    return json.dumps([first, last])
