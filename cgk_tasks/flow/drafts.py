"""What is sent together, before it becomes runs: checked, and written as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from cgk_tasks.broker.without import refuse_without_record
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.flow.new_run import NO_OPTIONS, SendOptions
from cgk_tasks.runs.plain_columns import search_fields_of


class Drafts:
    """Texts in lists of their own, and no object for each send: when a quarter of a process's objects is new, Python's
    collector of cycles goes through all of them, which takes longer than a bulk send does otherwise.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.tenants: list[str] = []
        self.payloads: list[str] = []
        self.search_fields: list[str | None] = []
        self.options: list[SendOptions] = []
        self.telemetry: set[str] = set()
        """The events among them that are not durable."""

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[tuple[str, str, str, SendOptions, str | None]]:
        """Each send, as `NewRuns.make` takes it."""
        return zip(self.events, self.tenants, self.payloads, self.options, self.search_fields, strict=True)

    def add(self, event: TenantEvent, options: SendOptions) -> None:
        """Raises PayloadInvalidError for a text that is not Unicode, and ConfigurationError for telemetry without a
        broker.
        """
        name = event.event_name
        if not event.durable:
            refuse_without_record(name)
            self.telemetry.add(name)
        text = event.to_json().decode()
        self.search_fields.append(search_fields_of(event))
        self.payloads.append(text)
        self.events.append(name)
        self.tenants.append(event.tenant_id)
        self.options.append(options)

    @property
    def are_plain(self) -> bool:
        """Whether all are durable and without options."""
        return not self.telemetry and all(options is NO_OPTIONS for options in self.options)
