"""What a process remembers between the passes that it makes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Memory:
    """What the next pass need not look for, if it has the number after this one.

    known: slots before the frontier that were held. after: the gate with which the last look at full gates ended.
    clocks: by queue, the virtual time at which newcomers begin; floors: before which no share has an open lane.
    """

    number: int | None = None
    frontier: int = 0
    known: list[int] = field(default_factory=list)
    after: int = 0
    clocks: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    unclaimed_since: dict[str, str] = field(default_factory=dict)
    """By queue: before it nothing is dispatched that is not claimed."""
    lending: bool = False

    @property
    def oldest(self) -> int:
        """Before it no slot is held."""
        return min([self.frontier, *self.known])
