"""Tokens with which a browser may watch runs: signed, and over after a short time. Nothing is kept of them.

A token is for one run, or for all of a tenant. It opens streams, and nothing else. One that a key has made ends with
the key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cgk_tasks.api_keys.scopes import WATCH, WATCH_ALL
from cgk_tasks.config import get_settings
from cgk_tasks.config.encryption_keys import signing_keys
from cgk_tasks.errors import InvalidOptionError, RequestRefusedError, as_seconds
from cgk_tasks.extras import require_extra
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.sql.clock import database_now
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.platform import is_platform
from cgk_tasks.tenancy.visibility import refuse_in_context

if TYPE_CHECKING:
    from itsdangerous import URLSafeSerializer

FORM: Final = "cgkt_"
"""What every token begins with, so that it is not mistaken for a key, and found where it should not be."""
LONGEST_SECONDS: Final = 86_400.0
USUAL_SECONDS: Final = 3_600.0

_PURPOSE: Final = b"cgk_tasks browser token 1"
_LONGEST: Final = 2_000


@dataclass(frozen=True, slots=True)
class BrowserToken:
    """What a token says. token: the text that the browser is given. run_id: None for all runs of the tenant."""

    token: str = field(repr=False)
    tenant_id: str
    run_id: str | None
    expires_at: datetime
    key: str = ""
    """The prefix of the key that has made it."""

    @property
    def id(self) -> str:
        """Requests with tokens of the same key are counted together: there are as many tokens as pages are opened."""
        return f"tokens {self.key}"

    @property
    def prefix(self) -> str:
        return self.key or "token"

    @property
    def scopes(self) -> tuple[str, ...]:
        return (WATCH_ALL if self.run_id is None else f"{WATCH}{self.run_id}",)


def create_browser_token(
    tenant_id: str,
    run_id: str | None = None,
    *,
    all_runs: bool = False,
    expires: float | timedelta = USUAL_SECONDS,
) -> BrowserToken:
    """Make a token with which a browser may watch a run of the tenant, or with `all_runs` all of them.

    It opens the streams of the HTTP API and nothing else: no payload, no result. expires: after so many seconds, or a
    timedelta; a day at most. Asks nobody whether there is such a run: if it is not the tenant's, the token opens
    nothing. Raises InvalidOptionError, UnknownTenantError, TenantContextError, and ConfigurationError without a key to
    sign with.

        run = send_job("data.import", {"tenantId": "acme", "url": url})
        token = create_browser_token("acme", run.id).token
    """
    return issue(tenant_id, run_id, all_runs=all_runs, expires=expires)


def issue(
    tenant_id: str, run_id: str | None, *, all_runs: bool, expires: float | timedelta, key: str = ""
) -> BrowserToken:
    """The same. key: the prefix of the key that asks for it."""
    require_extra("gateway", "A browser token")
    refuse_in_context("browser tokens", tenant_id)
    if is_platform(registry.require(tenant_id)):
        raise InvalidOptionError("tenant_id", f"{tenant_id!r} stands for the platform, which sees all tenants.")
    if (run_id is None) is not all_runs:
        raise InvalidOptionError("run_id", "is needed, or all_runs=True in its place; not both.")
    is_number = isinstance(expires, int | float | timedelta) and not isinstance(expires, bool)
    seconds = as_seconds(expires) if is_number else 0.0
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise InvalidOptionError("expires", f"must be from 1 s to a day, not {expires!r}")
    run_id = None if run_id is None else run_id_of(run_id)
    ends = int(database_now().timestamp() + seconds)
    said = _signer().dumps([tenant_id, run_id, ends, key])
    return BrowserToken(f"{FORM}{said}", tenant_id, run_id, datetime.fromtimestamp(ends, UTC), key)


def read_token(text: str) -> BrowserToken:
    """What a token says. Raises RequestRefusedError, 401, for one that was not signed here, or whose time is over."""
    require_extra("gateway", "A browser token")
    from itsdangerous import BadData

    if not text.startswith(FORM) or len(text) > _LONGEST:
        raise _refused("This is not the form of a browser's token.")
    try:
        tenant_id, run_id, ends, key = _signer().loads(text.removeprefix(FORM))
    except BadData:
        raise _refused("This token was altered, or cut off, or the key that it was signed with is gone.") from None
    if ends <= database_now().timestamp():
        raise _refused("The time of this token is over.")
    return BrowserToken(text, tenant_id, run_id, datetime.fromtimestamp(ends, UTC), key)


def _signer() -> URLSafeSerializer:
    from itsdangerous import URLSafeSerializer

    newest_last = _keys()[::-1]
    return URLSafeSerializer(
        newest_last, salt=_PURPOSE, signer_kwargs={"key_derivation": "hmac", "digest_method": sha256}
    )


def _keys() -> list[bytes]:
    """The keys that tokens may be signed with, the newest first."""
    settings = get_settings()
    return signing_keys(
        settings.browser_token_keys or settings.encryption_keys,
        _PURPOSE,
        of_what="the token of a browser",
        named="CGK_BROWSER_TOKEN_KEYS, wherever tokens are made and gateways run",
    )


def _refused(text: str) -> RequestRefusedError:
    return RequestRefusedError(text, "UNAUTHORIZED", 401, hint="Have the page ask its own server for a new one.")
