"""A creator signs up, and a person of the team decides: by a link, reminded after 3 days; after 14 it is a no."""

from datetime import timedelta
from typing import Any

from flask import Flask, abort, request
from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import BaseModel

from cgk_tasks import WorkflowContext, define_workflow, send_job, signal_run
from cgk_tasks.errors import RunStateError, UnknownRunError
from cgk_tasks.events import CreatorRejected, SlackNotify, TenantEvent

REMINDED_AFTER, DECIDED_AFTER = timedelta(days=3), timedelta(days=14)

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SHOP_URL


class CreatorSignedUp(TenantEvent, event="creator.signedUp"):
    creator_id: str


class Decision(BaseModel):
    accepted: bool
    by: str


def links() -> URLSafeSerializer:
    return URLSafeSerializer(app.config["SECRET_KEY"], salt="decisions")


def ask_team(creator: CreatorSignedUp, run_id: str, words: str) -> None:
    link = f"{app.config['SHOP_URL']}/decisions/{links().dumps(run_id)}"
    question = SlackNotify(tenant_id=creator.tenant_id, channel="#creators", message=f"{words} {link}")
    send_job(question, idempotency_key=f"{words}:{run_id}")


def reject(creator: CreatorSignedUp, run_id: str, reason: str) -> None:
    answer = CreatorRejected(tenant_id=creator.tenant_id, creator_id=creator.creator_id, reason=reason)
    send_job(answer, idempotency_key=f"rejected:{run_id}")


@define_workflow("approve-creator", event=CreatorSignedUp)
def approve_creator(wf: WorkflowContext[CreatorSignedUp]) -> str:
    creator = wf.payload
    wf.step("ask", ask_team, creator, wf.run_id, f"May {creator.creator_id} begin?")
    decision = wf.wait_for_signal("decision", Decision, timeout=REMINDED_AFTER)
    if decision is None:
        wf.step("remind", ask_team, creator, wf.run_id, f"{creator.creator_id} still waits.")
        decision = wf.wait_for_signal("decision", Decision, timeout=DECIDED_AFTER - REMINDED_AFTER)
    if decision is None or not decision.accepted:
        reason = "nobody has decided" if decision is None else f"{decision.by} has declined"
        wf.step("reject", reject, creator, wf.run_id, reason)
        return reason
    return f"{decision.by} has accepted"


@app.get("/decisions/<token>")
def show(token: str) -> str:  # a program that follows links in messages decides nothing
    return """<form method="post">Your name: <input name="by" required>
        <button name="accepted" value="yes">Accept</button>
        <button name="accepted" value="no">Decline</button></form>"""


@app.post("/decisions/<token>")
def decide(token: str) -> Any:
    decision = Decision(accepted=request.form["accepted"] == "yes", by=request.form["by"])
    try:
        run_id = links().loads(token)
        is_first = signal_run(run_id, "decision", decision.model_dump(), key="decision")
    except (BadSignature, UnknownRunError):
        abort(404)
    except RunStateError:  # the run has ended
        is_first = False
    return "Thank you." if is_first else ("It was decided before.", 409)
