"""The HTTP API: send events, read and operate runs, from programs in any language.

    uvicorn --factory cgk_tasks.gateway:application

`cgk-tasks gateway` does that too. An application of FastAPI or Starlette mounts it: `api.mount("/jobs",
application())`. Keys need no extra; `application` and the tokens of browsers need the extra `gateway`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgk_tasks.api_keys.keys import ApiKey, create_key, list_keys, revoke_key, rotate_key
from cgk_tasks.extras import require_extra
from cgk_tasks.gateway.browser_tokens import BrowserToken, create_browser_token

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = [
    "ApiKey", "BrowserToken", "application", "create_browser_token", "create_key", "list_keys", "revoke_key",
    "rotate_key",
]  # fmt: skip


def application() -> Starlette:
    """The API as an ASGI application. It imports CGK_JOB_MODULES, which define the application's events.

    Raises ConfigurationError without the extra `gateway`, or without a database.
    """
    require_extra("gateway", "The HTTP gateway")
    from cgk_tasks.gateway.asgi import make_application

    return make_application()
