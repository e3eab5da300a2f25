"""Settings: webhooks."""

from __future__ import annotations

from pydantic import Field, PositiveFloat

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import Delays, Names


class WebhookSettings(Concern):
    """Webhooks."""

    webhooks: bool = Field(default=False, description="Switches the jobs of webhook.received and its like on.")
    webhook_timeout_seconds: PositiveFloat = Field(
        default=15.0, description="From the look-up of an endpoint's name to the end of its answer, at most."
    )
    webhook_retry_seconds: Delays = Field(
        default=(5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0),
        description="Waits before the second attempt of a delivery, the third, …; separated by commas.",
    )
    webhook_give_up_seconds: PositiveFloat = Field(
        default=86400.0, description="An endpoint that has only failed for so long is switched off."
    )
    webhook_private_hosts: Names = Field(
        default=(),
        description="Hosts that webhooks may reach at private addresses and by http, for development; "
        "separated by commas.",
    )
