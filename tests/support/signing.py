"""Signing requests as the senders of webhooks do, each by its public documentation, with none of our code."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime

from standardwebhooks import Webhook


def standard(body, secret, *, delivery="msg_1", at=None):
    """By their own library, which takes a text; by hand for what is none."""
    at = int(time.time() if at is None else at)
    try:
        signature = Webhook(secret).sign(delivery, datetime.fromtimestamp(at, UTC), body.decode())
    except UnicodeDecodeError:
        signed = f"{delivery}.{at}.".encode() + body
        digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
        signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": delivery, "webhook-timestamp": str(at), "webhook-signature": signature}


def stripe(body, secret, *, at=None):
    at = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), str(at).encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={at},v1={digest},v0={'0' * 64}"}


def shopify(body, secret, *, delivery="b54557e4-bdd9-4b37-8a5f-bf7d70bcd043", shop="acme.myshopify.com"):
    digest = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    return {
        "X-Shopify-Hmac-SHA256": digest, "X-Shopify-Webhook-Id": delivery, "X-Shopify-Shop-Domain": shop,
        "X-Shopify-Topic": "orders/create",
    }  # fmt: skip


def github(body, secret, *, delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958"):
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": delivery, "X-GitHub-Event": "push"}


def qstash(body, secret, /, *, url, delivery="msg_7YoJxFpwkEy5zBp378JgvD6YBDPBEqkBPje2JGTCEUiASMJQ1FwY9", **claims):
    return {"Upstash-Signature": jwt(body, secret, url=url, **claims), "Upstash-Message-Id": delivery}


def jwt(body, secret, /, *, url, at=None, header=None, **claims):
    at = int(time.time() if at is None else at)
    said = {
        "iss": "Upstash", "sub": url, "exp": at + 300, "nbf": at, "iat": at, "jti": "jwt_67kxXD6UBAk7DqU6hzuHMDdXFXfP",
        "body": base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode(),
    } | claims  # fmt: skip
    signed = f"{_part(header or {'alg': 'HS256', 'typ': 'JWT'})}.{_part(said)}"
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_encoded(signature)}"


def _part(value):
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
