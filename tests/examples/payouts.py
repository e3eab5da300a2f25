"""A creator is paid out: the amount is reserved, sent by a bank that does not always answer, and booked; or undone."""

import os
from typing import Any

import requests
from sqlalchemy import text

from cgk_tasks import PermanentError, Reconciled, RetryConfig, Tenant, WorkflowContext, define_workflow
from cgk_tasks.events import Money, TenantEvent


class PayoutDue(TenantEvent, event="payout.due"):
    payout_id: str
    creator_id: str
    amount: Money


TAKE = text("""UPDATE balances SET available = available - :amount
                WHERE creator_id = :creator AND available >= :amount RETURNING available""")
GIVE_BACK = text("UPDATE balances SET available = available + :amount WHERE creator_id = :creator")
RESERVED = text("INSERT INTO payouts VALUES (:payout, 'reserved')")
CLOSED = text("UPDATE payouts SET state = :state, transfer_id = :transfer WHERE payout_id = :payout")


def create_tables(_tenant: Tenant, connection: Any) -> None:
    connection.execute("""
        CREATE TABLE IF NOT EXISTS balances (creator_id text PRIMARY KEY, available numeric NOT NULL);
        CREATE TABLE IF NOT EXISTS payouts (payout_id text PRIMARY KEY, state text NOT NULL, transfer_id varchar(35))
    """)


def transfer(key: str, payout: PayoutDue) -> str:
    order = {"reference": key, "to": payout.creator_id, "amount": str(payout.amount)}
    answer = requests.post(f"{os.environ['BANK_URL']}/transfers", json=order, timeout=10)
    if answer.status_code == 422:
        raise PermanentError(answer.json()["reason"], code="PAYOUT_REFUSED")
    answer.raise_for_status()
    return str(answer.json()["id"])


def find_transfer(key: str) -> str | Reconciled:
    answer = requests.get(f"{os.environ['BANK_URL']}/transfers/{key}", timeout=10)
    if answer.status_code == 404:
        return Reconciled.NOT_DONE
    answer.raise_for_status()
    found = answer.json()
    said: dict[str, str | Reconciled] = {"booked": found["id"], "rejected": Reconciled.NOT_DONE}
    return said.get(found["state"], Reconciled.UNKNOWN)


def recall(transfer_id: str) -> None:
    requests.post(f"{os.environ['BANK_URL']}/transfers/{transfer_id}/recall", timeout=10).raise_for_status()


@define_workflow("pay-out", event=PayoutDue, retry=RetryConfig(max_attempts=5, initial_delay=60, max_delay=3600))
def pay_out(wf: WorkflowContext[PayoutDue]) -> str:
    payout = wf.payload
    values = {"payout": payout.payout_id, "creator": payout.creator_id, "amount": payout.amount}

    def reserve() -> None:
        wf.db.execute(RESERVED, values)
        if wf.db.execute(TAKE, values).first() is None:
            raise PermanentError("The balance is smaller than the payout.", code="INSUFFICIENT_BALANCE")

    def release() -> None:
        wf.db.execute(GIVE_BACK, values)
        wf.db.execute(CLOSED, {**values, "state": "undone", "transfer": None})

    def book(transfer_id: str) -> None:
        wf.db.execute(CLOSED, {**values, "state": "paid", "transfer": transfer_id})

    wf.step("reserve", reserve)
    wf.compensate("release", release)
    transfer_id = wf.effect("transfer", transfer, payout, reconcile=find_transfer)
    wf.compensate("recall", recall, transfer_id)
    wf.step("book", book, transfer_id)
    return transfer_id
