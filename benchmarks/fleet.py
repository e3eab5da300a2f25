"""Which tenant is in which cell: where a new one goes, which move when a cell fills up, what a lost cell leaves.

A model for benchmarks/cells.py. A cell is known by what it does in each hour of a day, a tenant by its mean and region.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

REGION_OFFSETS = (0, 6, 15)
"""By how many hours the day of a region is later than that of the first one."""

_SWING, _BUSIEST_HOUR = 0.8, 14

CURVES = tuple(
    tuple(1 + _SWING * math.cos(2 * math.pi * (hour - offset - _BUSIEST_HOUR) / 24) for hour in range(24))
    for offset in REGION_OFFSETS
)
"""What a tenant of a region does in each hour, as a multiple of its mean."""

MOST_OF_A_DAY = 1 + _SWING
"""How much more than the mean the busiest hour of a tenant is."""


@dataclass(slots=True)
class Tenant:
    """`rate`: runs a second, the mean of a day."""

    name: str
    region: int
    rate: float

    @property
    def peak(self) -> float:
        return self.rate * MOST_OF_A_DAY


@dataclass(slots=True, eq=False)
class Cell:
    """`demands`: runs a second in each hour of a day, by the means of its tenants."""

    number: int
    tenants: dict[str, Tenant] = field(default_factory=dict)
    demands: list[float] = field(default_factory=lambda: [0.0] * 24)

    @property
    def peak(self) -> float:
        return max(self.demands)

    def peak_with(self, tenant: Tenant) -> float:
        rate = tenant.rate
        return max(demand + rate * part for demand, part in zip(self.demands, CURVES[tenant.region], strict=True))

    def recount(self) -> None:
        """After its tenants' rates have changed."""
        regions = [0.0] * len(CURVES)
        for tenant in self.tenants.values():
            regions[tenant.region] += tenant.rate
        self.demands = [
            sum(rate * curve[hour] for rate, curve in zip(regions, CURVES, strict=True)) for hour in range(24)
        ]


class Fleet:
    """Cells that each carry `capacity` runs a second.

    room: up to which part of it tenants are put into a cell. crowded: above which part tenants are moved out, until the
    rest fits into the room. The difference is what keeps a tenant from moving to and fro. choices: a tenant goes into
    the best of so many cells taken at random.
    """

    def __init__(
        self, capacity: float, random: Random, *, choices: int = 1_000, room: float = 0.75, crowded: float = 0.9
    ) -> None:
        self.capacity, self.room, self.crowded = capacity, room * capacity, crowded * capacity
        self.cells: list[Cell] = []
        self.directory: dict[str, Cell] = {}
        self._random, self._choices = random, choices
        self._opened = 0

    def open_cell(self) -> Cell:
        self._opened += 1
        self.cells.append(Cell(self._opened))
        return self.cells[-1]

    def add(self, tenant: Tenant) -> list[Tenant]:
        """Place a tenant that is in no cell; in parts, if it is more than one has room for. Returns the parts."""
        parts = self._parts(tenant)
        for part in parts:
            self._put(part, self._choose(part, self.room))
        return parts

    def rebalance(self) -> list[Tenant]:
        """Move tenants out of cells that are crowded. Returns those that have moved."""
        moved = []
        for cell in list(self.cells):
            if cell.peak > self.crowded:
                while cell.peak > self.room:
                    moved += self._relieve(cell)
        return moved

    def lose(self, cell: Cell) -> int:
        """Close a cell and place its tenants in the others, up to all of their capacity. Returns how many it opened."""
        before = self._opened
        self.cells.remove(cell)
        for tenant in sorted(cell.tenants.values(), key=lambda one: one.rate, reverse=True):
            self._put(tenant, self._choose(tenant, self.capacity))
        return self._opened - before

    def _choose(self, tenant: Tenant, limit: float, but: Cell | None = None) -> Cell:
        """The best of some cells taken at random; the best of all, if those have no room; else a new one."""
        others = [cell for cell in self.cells if cell is not but]
        for among in (self._random.sample(others, min(self._choices, len(others))), others):
            if among:
                best = min(among, key=lambda cell: cell.peak_with(tenant))
                if best.peak_with(tenant) <= limit:
                    return best
        return self.open_cell()

    def _relieve(self, cell: Cell) -> list[Tenant]:
        """Move one tenant: the smallest that is enough, else the largest. Of one too large for a cell, a part stays."""
        excess = cell.peak - self.room
        hour = cell.demands.index(cell.peak)
        shares = {tenant.name: tenant.rate * CURVES[tenant.region][hour] for tenant in cell.tenants.values()}
        enough = [name for name, share in shares.items() if share >= excess]
        chosen = min(enough, key=shares.__getitem__) if enough else max(shares, key=shares.__getitem__)
        moves = self._parts(cell.tenants[chosen])
        self._take(cell.tenants[chosen], cell)
        if len(moves) > 1:
            self._put(moves.pop(), cell)
        for tenant in moves:
            self._put(tenant, self._choose(tenant, self.room, but=cell))
        return moves

    def _parts(self, tenant: Tenant) -> list[Tenant]:
        return split(tenant, math.ceil(tenant.peak / self.room)) if tenant.peak > self.room else [tenant]

    def _put(self, tenant: Tenant, cell: Cell) -> None:
        cell.tenants[tenant.name] = tenant
        self.directory[tenant.name] = cell
        _add(cell, tenant, tenant.rate)

    def _take(self, tenant: Tenant, cell: Cell) -> None:
        del cell.tenants[tenant.name], self.directory[tenant.name]
        _add(cell, tenant, -tenant.rate)


def split(tenant: Tenant, count: int) -> list[Tenant]:
    """Tenants of their own that do together what this one did."""
    return [Tenant(f"{tenant.name}.{number}", tenant.region, tenant.rate / count) for number in range(1, count + 1)]


def _add(cell: Cell, tenant: Tenant, rate: float) -> None:
    cell.demands = [demand + rate * part for demand, part in zip(cell.demands, CURVES[tenant.region], strict=True)]
