"""Finding templates: ours first, then Flower's. `flower/NAME` is Flower's own where we have one of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import flower
from tornado.template import BaseLoader, Template

OURS: Final = Path(__file__).parent / "templates"
FLOWERS: Final = Path(flower.__file__).parent / "templates"


class TemplateLoader(BaseLoader):
    """Tornado's templates from both folders. Our `navbar.html` puts our links above those of Flower's pages."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:  # noqa: ARG002 - no folders in folders
        return name

    def _create_template(self, name: str) -> Template:
        ours = OURS / name
        if ours.exists():
            return Template(ours.read_text(encoding="utf-8"), name=name, loader=self)
        text = (FLOWERS / name.removeprefix("flower/")).read_text(encoding="utf-8")
        # The content policy of Flower's pages lets only those scripts inside a page run that bear the request's nonce.
        return Template(text.replace("<script", '<script nonce="{{ nonce }}"'), name=name, loader=self)
