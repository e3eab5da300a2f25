"""The endpoints of tenants, on record in PostgreSQL."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Self

import structlog
from pydantic import SecretStr

from cgk_tasks.builtin.secrets.rotation import webhook_secret_name
from cgk_tasks.builtin.secrets.sealing import seal, unseal
from cgk_tasks.builtin.webhooks.addresses import check_url, refuse_private
from cgk_tasks.config import get_settings
from cgk_tasks.errors import InvalidOptionError, SecretUnreadableError, UnknownEndpointError, as_seconds
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import Row, autocommit, execute, fetch, statements
from cgk_tasks.tenancy import registry

SQL = statements("webhooks")
log = structlog.get_logger("cgk_tasks.webhooks")

DeliveryState = Literal["waiting", "delivered", "failed"]

KEEP_OLD_SECRET: Final = timedelta(hours=24)
_LONGEST_KEEP_SECONDS: Final = 365 * 86_400.0

_TOPIC = re.compile(r"\*|[A-Za-z0-9_/-]+(\.[A-Za-z0-9_/-]+)*(\.\*)?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tenant wants messages of some topics. old_secret_until: so long it is signed with the secret before as
    well.
    """

    id: str
    tenant_id: str
    url: str
    topics: tuple[str, ...]
    created_at: datetime
    stored_secret: str = field(repr=False)
    stored_old_secret: str | None = field(default=None, repr=False)
    old_secret_until: datetime | None = None
    failing_since: datetime | None = None
    switched_off_at: datetime | None = None
    switched_off_reason: str | None = None
    checked_at: datetime | None = None
    check_outcome: str | None = None

    @property
    def secret(self) -> SecretStr:
        """What the receiver checks signatures with (`whsec_…`). Raises SecretUnreadableError."""
        return SecretStr(_plain_secret(self.tenant_id, self.id, self.stored_secret))

    @property
    def target(self) -> Target:
        return Target.signing_with(self.tenant_id, self.id, self.url, self.stored_secret, self.stored_old_secret)

    @property
    def is_on(self) -> bool:
        return self.switched_off_at is None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message is posted to, and what it is signed with."""

    tenant_id: str
    endpoint_id: str
    url: str
    stored_secrets: tuple[str, ...] = field(repr=False)

    @classmethod
    def signing_with(cls, tenant_id: str, endpoint_id: str, url: str, secret: str, old_secret: str | None) -> Self:
        """The stored secret, and the one before it while that holds."""
        return cls(tenant_id, endpoint_id, url, (secret,) if old_secret is None else (secret, old_secret))

    def secrets(self) -> list[str]:
        """What messages are signed with: not with an old secret that cannot be read. Raises SecretUnreadableError."""
        newest, *old = self.stored_secrets
        found = [_plain_secret(self.tenant_id, self.endpoint_id, newest)]
        for stored in old:
            try:
                found.append(_plain_secret(self.tenant_id, self.endpoint_id, stored))
            except SecretUnreadableError as exc:
                log.warning("webhook_not_signed_with_old_secret", endpoint=self.endpoint_id, code=exc.code)
        return found


def add_endpoint(
    tenant_id: str, url: str, topics: Sequence[str] = ("*",), *, secret: SecretStr | None = None
) -> Endpoint:
    """Register where a tenant's messages go. Give the receiver the endpoint's secret.

    topics: names such as `order.created`, with `order.*` for all that begin so and `*` for everything. secret: one that
    the receiver has already, `whsec_` and Base64 of 24 to 64 bytes; by default a new one is made.
    Raises AddressRefusedError for a URL where webhooks may not go, InvalidOptionError, UnknownTenantError;
    ConfigurationError without a key to encrypt the secret with (CGK_ENCRYPTION_KEYS).
    """
    tenant = registry.require(tenant_id)
    private_hosts = get_settings().webhook_private_hosts
    refuse_private(check_url(url, private_hosts), private_hosts)
    endpoint_id = new_run_id()
    values = {
        "id": endpoint_id,
        "tenant_id": tenant.id,
        "url": url,
        "topics": _checked_topics(topics),
        "secret": _stored_secret(tenant.id, endpoint_id, secret),
    }
    with autocommit() as connection:
        return _endpoint(fetch(connection, SQL["add_endpoint"], values)[0])


def list_endpoints(tenant_id: str | None = None) -> list[Endpoint]:
    """The endpoints of one tenant, or of all; those that are switched off too."""
    with autocommit() as connection:
        return [
            _endpoint(row) for row in fetch(connection, SQL["list_endpoints"], {"tenant_id": tenant_id, "id": None})
        ]


def get_endpoint(tenant_id: str, endpoint_id: str) -> Endpoint:
    """One endpoint of a tenant. Raises UnknownEndpointError."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["list_endpoints"], {"tenant_id": tenant_id, "id": endpoint_id})
    if not rows:
        raise UnknownEndpointError(tenant_id, endpoint_id)
    return _endpoint(rows[0])


def remove_endpoint(tenant_id: str, endpoint_id: str) -> None:
    """Forget an endpoint and its deliveries. Raises UnknownEndpointError."""
    _change("remove_endpoint", tenant_id, endpoint_id)


def enable_endpoint(tenant_id: str, endpoint_id: str) -> Endpoint:
    """Switch an endpoint on again. What it missed is delivered by sending `webhook.retry` with attempt 1.

    Raises UnknownEndpointError.
    """
    _change("enable_endpoint", tenant_id, endpoint_id)
    return get_endpoint(tenant_id, endpoint_id)


def rotate_secret(
    tenant_id: str,
    endpoint_id: str,
    *,
    keep_old: float | timedelta = KEEP_OLD_SECRET,
    secret: SecretStr | None = None,
) -> Endpoint:
    """Give an endpoint another secret, by default a new one. For a time messages are signed with both.

    keep_old: how long the receiver may still check with the secret before, in seconds or as a timedelta; 0 ends it now,
    for a secret that others know. A second rotation within that time ends the older of the two old ones.
    Raises UnknownEndpointError, InvalidOptionError, and ConfigurationError without a key to encrypt it with.
    """
    keep_seconds = as_seconds(keep_old)
    if keep_seconds < 0:
        raise InvalidOptionError(
            "keep_old", "it is negative.", hint="Give how long the old secret still holds; 0 ends it now."
        )
    stored = _stored_secret(tenant_id, endpoint_id, secret)
    _change(
        "rotate_secret", tenant_id, endpoint_id, secret=stored, keep_seconds=min(keep_seconds, _LONGEST_KEEP_SECONDS)
    )
    return get_endpoint(tenant_id, endpoint_id)


def forget_old_secrets(tenant_id: str) -> None:
    """Delete the old secrets of a tenant that have ended. They sign nothing any more in any case."""
    with autocommit() as connection:
        execute(connection, SQL["forget_old_secrets"], {"tenant_id": tenant_id})


def list_deliveries(
    tenant_id: str, endpoint_id: str | None = None, *, state: DeliveryState | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """A tenant's deliveries, the newest message first: how often each was tried, and what the endpoint answered."""
    values = {"tenant_id": tenant_id, "endpoint_id": endpoint_id, "state": state, "limit": limit}
    with autocommit() as connection:
        return fetch(connection, SQL["list_deliveries"], values)


def _plain_secret(tenant_id: str, endpoint_id: str, stored: str) -> str:
    return unseal(stored, tenant_id=tenant_id, name=webhook_secret_name(endpoint_id))


def _stored_secret(tenant_id: str, endpoint_id: str, secret: SecretStr | None) -> str:
    """The given secret or a new one, as it is stored."""
    plain = _checked_secret(secret) if secret else _new_secret()
    return seal(plain, tenant_id=tenant_id, name=webhook_secret_name(endpoint_id))


def _change(statement: str, tenant_id: str, endpoint_id: str, **values: Any) -> None:
    with autocommit() as connection:
        if not execute(connection, SQL[statement], {"tenant_id": tenant_id, "id": endpoint_id, **values}):
            raise UnknownEndpointError(tenant_id, endpoint_id)


def _endpoint(row: Row) -> Endpoint:
    return Endpoint(**{**row, "topics": tuple(row["topics"])})


def _checked_topics(topics: Sequence[str]) -> list[str]:
    named = [topics] if isinstance(topics, str) else list(topics)
    wrong = next((topic for topic in named if not _TOPIC.fullmatch(topic)), None)
    if not named or wrong is not None:
        raise InvalidOptionError("topics", f"{wrong!r} is none.", hint="Name them like order.created, order.* or *.")
    return named


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _checked_secret(secret: SecretStr) -> str:
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise InvalidOptionError(
            "secret", "it must be whsec_ and the Base64 of 24 to 64 bytes.", hint="Or leave it out."
        )
    return text
