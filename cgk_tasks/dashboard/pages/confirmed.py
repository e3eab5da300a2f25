"""Forms that send jobs: what was typed into them, and whether it is confirmed where that is asked for."""

from __future__ import annotations

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.errors import SendError


class NotConfirmedError(SendError):
    """In production the box beside the button was not ticked."""

    code = "NOT_CONFIRMED"


class Confirmed(Page):
    """A page whose form sends a job."""

    def require_confirmed(self) -> None:
        """Raises NotConfirmedError in production, unless the box is ticked."""
        settings = get_settings()
        if settings.is_production and self.field("confirm") != "yes":
            raise NotConfirmedError(f"Nothing was sent: this is {settings.environment.strip()}. Tick the box below.")

    def texts(self, prefix: str) -> dict[str, str]:
        """What was typed into the controls whose names begin so, with its spaces and lines."""
        return {
            name: values[-1].decode(errors="replace")
            for name, values in self.request.body_arguments.items()
            if name.startswith(prefix)
        }
