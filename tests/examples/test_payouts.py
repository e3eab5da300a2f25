"""The example of a saga with a flaky bank: money moves once or not at all; where nobody knows, a person is asked."""

import json
import re
from datetime import timedelta

import pytest
from sqlalchemy import text
from werkzeug import Response

from cgk_tasks import cancel_run, send_job, signal_run, tenant_context, tenant_session
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.tenancy import registry
from cgk_tasks.testing import prove_idempotent
from tests.examples.payouts import create_tables, pay_out

DAY = timedelta(days=1)

PAYOUT = {"payoutId": "p-1", "creatorId": "ada", "amount": 60}


class Bank:
    """It knows transfers by their reference. answers: what it does with the next orders, if not what it should."""

    def __init__(self, server):
        self.transfers, self.rejected, self.recalled, self.answers = {}, set(), [], []
        self.is_unclear = self.recalls_nothing = self.loses_first_answers = False
        self.next_id = None
        for method, path, answer in (
            ("POST", r"/transfers", self._take), ("POST", r"/transfers/[^/]+/recall", self._recall),
            ("GET", r"/transfers/[^/]+", self._find),
        ):  # fmt: skip
            server.expect_request(re.compile(f"^{path}$"), method=method).respond_with_handler(answer)

    def _take(self, request):
        order, answer = request.get_json(), self.answers.pop(0) if self.answers else "takes"
        if answer == "is away":
            return Response(status=503)
        if answer == "rejects and does not say so":
            self.rejected.add(order["reference"])
            return Response(status=504)
        if answer == "refuses" or order["reference"] in self.rejected:
            return _said({"reason": "The account is closed."}, 422)
        is_new = order["reference"] not in self.transfers
        found = self.transfers.setdefault(order["reference"], self.next_id or f"tr-{len(self.transfers) + 1}")
        if answer == "takes and does not say so" or (is_new and self.loses_first_answers):
            return Response(status=504)
        return _said({"id": found})

    def _find(self, request):
        if self.is_unclear:
            return _said({"state": "unclear", "id": None})
        reference = request.path.rpartition("/")[2]
        if reference in self.rejected:
            return _said({"state": "rejected", "id": None})
        found = self.transfers.get(reference)
        return Response(status=404) if found is None else _said({"state": "booked", "id": found})

    def _recall(self, request):
        if self.recalls_nothing:
            return Response(status=409)
        self.recalled.append(request.path.split("/")[2])
        return Response(status=204)


def _said(answer, status=200):
    return Response(json.dumps(answer), status, content_type="application/json")


@pytest.fixture
def bank(httpserver, setting):
    setting(BANK_URL=httpserver.url_for("/").rstrip("/"))
    return Bank(httpserver)


@pytest.fixture(scope="module")
def tables(database):
    acme = registry.require("acme")
    with transaction() as connection:
        connection.execute(f'SET LOCAL search_path TO "{acme.schema_name}"')
        create_tables(acme, connection)


@pytest.fixture
def balance(tables, bank):
    """`balance()` is what ada has; at first 100."""
    with tenant_context("acme"), tenant_session() as session:
        session.execute(text("DELETE FROM payouts"))
        session.execute(text("DELETE FROM balances"))
    with tenant_context("acme"):
        give_balance()
    return lambda: read("SELECT available FROM balances")[0][0]


def give_balance(_tenant=None):
    with tenant_session() as session:
        session.execute(text("INSERT INTO balances VALUES ('ada', 100)"))


def read(query):
    with tenant_context("acme"), tenant_session() as session:
        return [tuple(row) for row in session.execute(text(query))]


def payouts():
    return read("SELECT state, transfer_id FROM payouts")


def begin(local_jobs, **changes):
    """The run's id, once it waits or has ended."""
    run_id = send_job("payout.due", {**PAYOUT, **changes, "tenantId": "acme"}).id
    local_jobs.advance(DAY)
    return run_id


def test_a_payout_is_sent_and_booked(balance, bank, local_jobs):
    begin(local_jobs)
    assert (local_jobs.runs[0].result, balance(), payouts()) == ("tr-1", 40, [("paid", "tr-1")])


def test_a_balance_that_is_too_small_is_left_alone(balance, bank, local_jobs):
    begin(local_jobs, amount=101)
    run = local_jobs.runs[0]
    assert (run.state, run.error_code, run.error.get("compensated")) == ("failed", "INSUFFICIENT_BALANCE", None)
    assert (balance(), payouts(), bank.transfers) == (100, [], {})


@pytest.mark.parametrize("answer", ["refuses", "rejects and does not say so"])
def test_what_the_bank_refuses_is_given_back(balance, bank, local_jobs, answer):
    bank.answers = [answer]
    begin(local_jobs)
    run = local_jobs.runs[0]
    assert (run.error_code, run.error["compensated"]) == ("PAYOUT_REFUSED", ["release"])
    assert (balance(), payouts()) == (100, [("undone", None)])


@pytest.mark.parametrize("answers", [["is away", "is away"], ["takes and does not say so"]])
def test_a_bank_that_gives_no_answer_is_asked_what_it_has_done(balance, bank, local_jobs, answers):
    bank.answers = answers
    begin(local_jobs)
    assert (local_jobs.runs[0].result, len(bank.transfers), balance()) == ("tr-1", 1, 40)


@pytest.fixture
def unclear(balance, bank, local_jobs):
    """The id of a run of which nobody knows whether its money went."""
    bank.answers, bank.is_unclear = ["takes and does not say so"], True
    return begin(local_jobs)


def test_where_nobody_knows_a_payout_waits_for_a_person(unclear, local_jobs, balance):
    local_jobs.advance(30 * DAY)
    assert (local_jobs.runs[0].state, balance(), payouts()) == ("scheduled", 40, [("reserved", None)])


@pytest.mark.parametrize(
    ("decision", "state", "left", "booked"),
    [
        ({"outcome": "done", "result": "tr-by-phone"}, "completed", 40, ("paid", "tr-by-phone")),
        ({"outcome": "again"}, "completed", 40, ("paid", "tr-1")),
        ({"outcome": "failed", "reason": "It never left."}, "failed", 100, ("undone", None)),
    ],
)
def test_a_person_says_what_has_become_of_the_money(unclear, local_jobs, bank, balance, decision, state, left, booked):
    signal_run(unclear, "transfer", decision)
    run = local_jobs.advance(DAY)[0]
    assert (run.state, balance(), payouts(), len(bank.transfers)) == (state, left, [booked], 1)


def test_a_payout_that_is_cancelled_is_not_given_back_before_a_person_has_said_that_the_money_did_not_go(
    unclear, local_jobs, balance
):
    cancel_run(unclear)
    assert (local_jobs.advance(DAY)[0].is_closed, balance()) == (False, 40)
    signal_run(unclear, "transfer", {"outcome": "failed", "reason": "It never left."})
    run = local_jobs.advance(DAY)[0]
    assert (run.state, run.error["compensated"], balance()) == ("cancelled", ["release"], 100)


def test_a_transfer_that_cannot_be_booked_is_recalled_before_the_amount_is_given_back(balance, bank, local_jobs):
    bank.next_id = "longer than the column may be: " + "9" * 35
    begin(local_jobs)
    run = local_jobs.runs[0]
    assert (run.state, run.error["compensated"], len(bank.recalled)) == ("failed", ["recall", "release"], 1)
    assert balance() == 100


def test_what_the_bank_does_not_recall_is_not_given_back(balance, bank, local_jobs):
    bank.next_id, bank.recalls_nothing = "9" * 36, True
    begin(local_jobs)
    run = local_jobs.runs[0]
    assert (run.state, run.error_code, run.error["compensated"]) == ("failed", "COMPENSATION_FAILED", [])
    assert balance() == 40


@pytest.mark.slow
@pytest.mark.parametrize("flaky", [False, True])
def test_money_is_sent_once_wherever_the_process_dies(database, bank, setting, flaky):
    setting(CGK_TENANT_SETUP="tests.examples.payouts:create_tables")
    bank.loses_first_answers = flaky
    proof = prove_idempotent(pay_out, PAYOUT, prepare=give_balance, watch={"transfers": lambda: len(bank.transfers)})
    assert proof.asked_for == ()
    assert {"transfers: 1", "table balances: 1", "table payouts: 1"} <= set(proof.effects)
    assert "after step 'transfer', before steps.keep_step" in proof.crash_points
