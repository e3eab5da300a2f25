"""Flower, beside our pages, at an address of its own. It looks as anywhere else; each request is authorized first."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import flower
from flower.app import Flower
from flower.views import monitor
from tornado.template import Loader, Template
from tornado.web import RedirectHandler, RequestHandler

from cgk_tasks.broker.without import has_broker
from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.access.flower_handlers import authorized

PATH: Final = "/flower"
"""Flower's own, below the dashboard's prefix."""

_INLINE_SCRIPT: Final = re.compile(r"<script(?![^>]*\bsrc=)")


class FlowerApplication(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower's pages and API, with our logins and roles. `prefix`: the dashboard's, empty or with a slash before it."""

    def __init__(self, prefix: str, **options: Any) -> None:
        templates = _Templates(str(Path(flower.__file__).parent / "templates"))
        super().__init__(**options, template_loader=templates)
        start = re.escape(prefix)
        self.add_handlers(".*", [
            (f"{start}{PATH}", RedirectHandler, {"url": f"{prefix}{PATH}/"}),
            (f"{start}{PATH}/login/?", RedirectHandler, {"url": f"{prefix}/login", "permanent": False}),
            (f"{start}{PATH}/logout", RedirectHandler, {"url": f"{prefix}/logout", "permanent": False}),
            # Where Prometheus has found it since the first release.
            (f"{start}/metrics", monitor.Metrics),
        ])  # fmt: skip

    @cached_property
    def broker_uri_with_password(self) -> str:
        """For Flower's page of the broker, which does not know our transport by its name."""
        settings = get_settings()
        is_named = settings.broker_url is not None and has_broker()
        return settings.broker if is_named else str(super().broker_uri_with_password)

    def get_handler_delegate(self, request: Any, target_class: type[RequestHandler], *args: Any, **options: Any) -> Any:
        """Every handler is authorized first."""
        return super().get_handler_delegate(request, authorized(target_class), *args, **options)


class _Templates(Loader):
    """Flower's templates. A script that stands in a page bears the request's nonce: no others run by our policy."""

    def _create_template(self, name: str) -> Template:
        text = (Path(self.root) / name).read_text(encoding="utf-8")
        return Template(_INLINE_SCRIPT.sub('<script nonce="{{ nonce }}"', text), name=name, loader=self)
