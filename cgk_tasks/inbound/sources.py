"""`@define_webhook`: where webhooks come from, how they are signed, and which events they become."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar, cast, get_args

from cgk_tasks.config import get_settings
from cgk_tasks.config.named_secrets import is_variable, named_secrets
from cgk_tasks.errors import ConfigurationError, InvalidTenantError, as_seconds
from cgk_tasks.events.base import TenantEvent, validate_tenant_id
from cgk_tasks.events.registry import get_event
from cgk_tasks.inbound.schemes import SCHEMES, SchemeName, check_secrets

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LONGEST_TOLERANCE: Final = 86_400.0

Event = TenantEvent | Mapping[str, Any]
"""What a delivery becomes: a model, or the payload of the source's own event, without the tenant."""

SecretOf = Callable[[str | None], str | Sequence[str] | None]
"""Takes the tenant in the path, or None; returns its secrets, or None if it has none."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """A call of another system, whose signature was right.

    id: the sender's, which it keeps when it calls again. headers: by names in small letters; most schemes sign the body
    alone, so they are not proven. body: as it came. payload: its JSON; None for a body that is none. tenant_id: that of
    the path or of the source, None where the source's `tenant` is a function.
    """

    source: str
    id: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    payload: Any = field(repr=False)
    tenant_id: str | None = None


Mapped = Event | Sequence[Event] | None
F = TypeVar("F", bound=Callable[[WebhookDelivery], Mapped])
TenantOf = Callable[[WebhookDelivery], str | None]


@dataclass(frozen=True, slots=True)
class WebhookSource:
    """A source as it was defined. tenant: None where it stands in the path."""

    name: str
    scheme: SchemeName
    secret: tuple[str, ...] | SecretOf = field(repr=False)
    event: str | None
    tenant: str | TenantOf | None
    tolerance: float
    handler: Callable[[WebhookDelivery], Mapped]

    def secrets(self, tenant_id: str | None) -> tuple[str, ...]:
        """Those that count now. Raises ConfigurationError where there is none, and whatever a function raises."""
        if callable(self.secret):
            given = self.secret(tenant_id)
            found = (given,) if isinstance(given, str) else tuple(given or ())
        else:
            found = tuple(one for variable in self.secret for one in named_secrets(variable))
        if not found or not all(isinstance(one, str) and one for one in found):
            raise ConfigurationError(f"The webhook source {self.name!r} has no secret.")
        check_secrets(self.scheme, found)
        return found

    def check(self) -> None:
        """Raises ConfigurationError where what it needs is missing in the settings of this process."""
        if not callable(self.secret):
            self.secrets(None)
        if self.scheme == "qstash" and not get_settings().gateway_url:
            raise ConfigurationError(
                f"Webhook source {self.name!r}: QStash signs the address that it calls, which is not set.",
                hint="Set CGK_GATEWAY_URL to where the gateway is reached from outside, like https://jobs.example.com.",
            )


_sources: dict[str, WebhookSource] = {}


def define_webhook(
    name: str,
    *,
    scheme: SchemeName,
    secret: str | Sequence[str] | SecretOf,
    event: str | type[TenantEvent] | None = None,
    tenant: str | TenantOf | None = None,
    tolerance: float | timedelta = 300.0,
) -> Callable[[F], F]:
    """Register the decorated function: it says which events a delivery of this source becomes.

        @define_webhook("shopify-orders", scheme="shopify", secret="SHOPIFY_SECRET", event=OrderCreated, tenant=shop_of)
        def shopify_order(delivery: WebhookDelivery) -> dict[str, Any] | None:
            if delivery.headers["x-shopify-topic"] != "orders/create":
                return None
            order = delivery.payload
            return {"orderId": str(order["id"]), "totalAmount": float(order["total_price"])}

    The gateway takes it at `POST /v1/webhooks/NAME`, checks the signature, and sends what the function returns: a
    payload of `event`, a model of any event, or a list of these, all or nothing. None: the delivery is ignored. The
    same delivery again sends nothing, for CGK_IDEMPOTENCY_SECONDS.

    scheme: `standard` (Standard Webhooks), `stripe`, `shopify`, `github`, `qstash`, or `bearer`, where the secret
    itself comes in `Authorization`. secret: the name of a variable that has it, or several names; each may have several
    secrets, separated by commas, of which any counts. Or a function that is called with the tenant of the path for each
    delivery. tenant: whose events they are: an id, or a function of the delivery, where None ignores it. Left out, the
    tenant is the end of the path: `/v1/webhooks/NAME/TENANT`. tolerance: seconds or timedelta that a signed time
    may lie from now, where the scheme has one.

    The gateway and whoever else imports the module must have it in CGK_JOB_MODULES; only the gateway needs the secret.
    Raises ConfigurationError, UnknownEventError.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is not a name for a webhook source.", hint="Use letters, digits, . _ and -."
        )
    if scheme not in SCHEMES:
        raise ConfigurationError(
            f"Webhook source {name!r}: scheme is {scheme!r}.",
            hint=f"There are: {', '.join(map(repr, get_args(SchemeName)))}.",
        )
    model = None if event is None else get_event(event if isinstance(event, str) else event.event_name)
    if model is not None:
        check_event(name, model)
    _check_tenant(name, tenant)
    found_secret = _secret(name, secret)
    seconds = _tolerance(name, tolerance)

    def register(handler: F) -> F:
        _check_handler(name, handler)
        source = WebhookSource(
            name, scheme, found_secret, None if model is None else model.event_name, tenant, seconds, handler
        )
        _add(source)
        return handler

    return register


def all_sources() -> list[WebhookSource]:
    """Those that this process defines."""
    return list(_sources.values())


def find_source(name: str) -> WebhookSource | None:
    return _sources.get(name)


def remove_source(name: str) -> None:
    """Forget a source; for tests."""
    _sources.pop(name, None)


def check_event(source: str, model: type[TenantEvent]) -> None:
    """Raises ConfigurationError for an event without a record, whose duplicates nobody could recognise."""
    if not model.durable:
        raise ConfigurationError(
            f"Webhook source {source!r} sends {model.event_name!r}, which leaves no record, so a delivery that comes "
            "twice would be sent twice.",
            hint="Send an event that is durable.",
        )


def _check_tenant(name: str, tenant: object) -> None:
    if tenant is None or callable(tenant):
        return
    try:
        validate_tenant_id(tenant)
    except InvalidTenantError:
        raise ConfigurationError(
            f"Webhook source {name!r}: tenant must be an id, a function of the delivery, or left out, not {tenant!r}."
        ) from None


def _secret(name: str, secret: object) -> tuple[str, ...] | SecretOf:
    if callable(secret):
        return cast("SecretOf", secret)
    names = (secret,) if isinstance(secret, str) else tuple(secret) if isinstance(secret, list | tuple) else ()
    if not names or not all(map(is_variable, names)):
        raise ConfigurationError(
            f"Webhook source {name!r}: secret must be the name of a variable in capitals, or several, or a function.",
            hint='Write secret="SHOPIFY_SECRET", and set that variable where the gateway runs. A secret does not '
            "belong into the code.",
        )
    return names


def _tolerance(name: str, tolerance: object) -> float:
    is_duration = isinstance(tolerance, int | float | timedelta) and not isinstance(tolerance, bool)
    seconds = as_seconds(tolerance) if is_duration else 0.0  # type: ignore[arg-type]  # it is one
    if not 1 <= seconds <= _LONGEST_TOLERANCE:
        raise ConfigurationError(
            f"Webhook source {name!r}: tolerance must be from a second to a day, in seconds or as a timedelta, "
            f"not {tolerance!r}."
        )
    return seconds


def _check_handler(name: str, handler: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(handler):
        raise ConfigurationError(
            f"Webhook source {name!r}: its function must be def, not async def.",
            hint="It only says which events a delivery becomes. The work is a job's.",
        )
    try:
        inspect.signature(handler).bind(object())
    except TypeError:
        raise ConfigurationError(
            f"Webhook source {name!r}: its function must take one argument, the WebhookDelivery."
        ) from None


def _add(source: WebhookSource) -> None:
    """The same function again (a reloaded module) replaces itself."""
    known = _sources.get(source.name)
    if known is not None and _place(known) != _place(source):
        raise ConfigurationError(
            f"The webhook source {source.name!r} is defined twice: by {_place(known)} and by {_place(source)}.",
            hint="Rename one.",
        )
    _sources[source.name] = source


def _place(source: WebhookSource) -> str:
    handler: Any = source.handler
    return f"{getattr(handler, '__module__', '')}.{getattr(handler, '__qualname__', repr(handler))}"
