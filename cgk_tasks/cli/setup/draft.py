"""What the set-up has decided: in force for this process and its worker at once, written to `.env.local` at the end."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cgk_tasks.cli.setup.found import Found, find
from cgk_tasks.config import use_settings


@dataclass
class Draft:
    """changes: variables and values for `.env.local`."""

    changes: dict[str, str] = field(default_factory=dict)
    _given: dict[tuple[str, ...], Found | None] = field(default_factory=dict)

    def find(self, names: tuple[str, ...]) -> Found | None:
        """The setting as it stood before this process tried anything out."""
        if names not in self._given:
            self._given[names] = find(names)
        return self._given[names]

    def set(self, names: tuple[str, ...], value: str) -> None:
        """Decide a setting: under the name that it has already, else the first of its names."""
        found = self.find(names)
        name = found.name if found else names[0]
        self.changes[name] = value
        self.try_out(name, value)

    def try_out(self, name: str, value: str) -> None:
        """Have a value in force for this process only."""
        from cgk_tasks.broker.publisher import close_publishers
        from cgk_tasks.sql.postgres import close_pools

        close_publishers()
        close_pools()
        os.environ[name] = value
        use_settings(None)
