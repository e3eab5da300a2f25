"""Outgoing webhooks: what tenants want to hear about is posted to their endpoints, signed by the Standard Webhooks
scheme.

    from cgk_tasks.builtin.webhooks import add_endpoint

    endpoint = add_endpoint("acme", "https://acme.example/hooks", ["order.*"])
    endpoint.secret.get_secret_value()      # the receiver checks signatures with it

The job of `webhook.process` delivers; those of `webhook.retry` go on with what failed.
"""

from cgk_tasks.builtin.webhooks.endpoints import (
    Endpoint,
    add_endpoint,
    enable_endpoint,
    get_endpoint,
    list_deliveries,
    list_endpoints,
    remove_endpoint,
    rotate_secret,
)

__all__ = [
    "Endpoint",
    "add_endpoint",
    "enable_endpoint",
    "get_endpoint",
    "list_deliveries",
    "list_endpoints",
    "remove_endpoint",
    "rotate_secret",
]
