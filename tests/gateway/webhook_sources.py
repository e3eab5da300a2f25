"""Sources of webhooks, as an application defines them. What they do is said by what they receive."""

from cgk_tasks import WebhookDelivery, define_webhook
from tests.gateway.webhook_secrets import OF_TENANTS, SHOPS
from tests.support.jobs import Behave
from tests.support.tenancy_jobs import ProbeTelemetry

COUNTER = iter(range(1_000))


@define_webhook("events", scheme="standard", secret="HOOKS_STANDARD", event=Behave, tenant="acme")
def events(delivery: WebhookDelivery):
    match delivery.payload["type"]:
        case "echo":
            return {"action": "echo", "argument": delivery.payload.get("text", "")}
        case "two":
            return [{"action": "echo", "argument": one} for one in delivery.payload["texts"]]
        case "own":
            return Behave(tenant_id=delivery.payload["tenant"], action="echo")
        case "telemetry":
            return ProbeTelemetry(tenant_id="acme", key="k")
        case "changing":
            return {"action": "echo", "argument": str(next(COUNTER))}
        case "wrong":
            return {"action": 7, "secretText": delivery.payload["text"]}
        case "number":
            return 7
        case "fails":
            raise ValueError(delivery.payload["text"])
        case _:
            return None


@define_webhook("stripe", scheme="stripe", secret="HOOKS_STRIPE", event=Behave, tenant="acme")
def stripe(delivery: WebhookDelivery):
    return {"action": "echo", "argument": delivery.payload["id"]}


@define_webhook(
    "shopify",
    scheme="shopify",
    secret="HOOKS_SHOPIFY",
    event=Behave,
    tenant=lambda delivery: SHOPS.get(delivery.headers["x-shopify-shop-domain"]),
)
def shopify(delivery: WebhookDelivery):
    return {"action": "echo", "argument": str(delivery.payload["id"])}


@define_webhook("github", scheme="github", secret=lambda tenant: OF_TENANTS[tenant], event=Behave)
def github(delivery: WebhookDelivery):
    return {"action": "echo", "argument": delivery.body.decode()}


@define_webhook(
    "qstash",
    scheme="qstash",
    secret=["QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY"],
    event=Behave,
    tenant="acme",
)
def qstash(delivery: WebhookDelivery):
    return delivery.payload


@define_webhook("clock", scheme="bearer", secret="HOOKS_CLOCK", event=Behave, tenant="acme")
def clock(delivery: WebhookDelivery):
    return {"action": "echo", "argument": "tick"}
