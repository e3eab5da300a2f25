"""A billion runs a day, on paper: what one PostgreSQL carries, and how many of them that makes.

    python benchmarks/cells.py [--write]

A simulation, without a server, that is the same each time. It takes what a run costs from benchmarks/COSTS.md and
counts cells, moves of tenants and look-ups. `--write` writes its tables and its picture for docs/explanation/scale.md.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fleet import CURVES, MOST_OF_A_DAY, Cell, Fleet, Tenant
from picture import Curve, curves

FOLDER = Path(__file__).parent
COSTS = FOLDER / "COSTS.md"
PAGE = FOLDER.parent / "docs" / "explanation" / "scale.md"
IMAGE = FOLDER.parent / "docs" / "images" / "scale.svg"

CORES, BUSY = 4, 0.6
"""Of a cell's PostgreSQL, and how much of them its runs may take in an hour that is planned for."""

MIX = {
    "sent one by one, does nothing": 0.2,
    "sent one by one, writes a row with `ctx.db`": 0.5,
    "sent in bulk, does nothing": 0.1,
    "sent in bulk, writes a row with `ctx.db`": 0.2,
}
"""What the runs are, by the names of COSTS.md."""

BYTES_OF_HISTORY = 340
"""A run with a small payload, indexes included: 122 MB for 360,000 runs in RESULTS.md."""

HISTORY_DAYS = 7
ROW_OF_DIRECTORY = 150
"""Bytes, indexes included. Estimated."""


@dataclass(frozen=True)
class World:
    """What is simulated. growth: of each tenant, a day. restless: how many tenants double or halve, a day."""

    runs_a_day: float = 1e9
    tenants: int = 50_000
    days: int = 28
    zipf: float = 1.1
    regions: tuple[float, ...] = (0.5, 0.3, 0.2)
    growth: float = 0.01
    wander: float = 0.03
    restless: float = 0.001
    bursts: float = 0.03
    """How many tenants have one, a day. It lasts an hour."""
    burst_median: float = 5.0
    burst_most: float = 50.0
    """By how many times their mean rate."""
    processes: int = 500
    """That send."""
    seed: int = 1


class Work:
    """What cells get done. backlogs: what is left of each, and for how many hours there has been some."""

    def __init__(self, capacity: float) -> None:
        self.most = capacity / BUSY
        self.backlogs: dict[Cell, tuple[float, int]] = {}
        self.stretches: list[int] = []
        """Hours of each stretch in which a cell had more to do than it could."""

    def an_hour(self, cell: Cell, demand: float) -> float:
        """Returns how busy the cell's processors are; what they do not get done is left for the next hour."""
        left, hours = self.backlogs.pop(cell, (0.0, 0))
        wanted = left + demand
        if wanted > self.most:
            self.backlogs[cell] = wanted - self.most, hours + 1
        elif hours:
            self.stretches.append(hours)
        return min(wanted, self.most) / self.most


@dataclass
class Outcome:
    """busy: of each hour, each cell's part of its processors. moves: of each day, what has moved."""

    fleet: Fleet
    work: Work
    first_cells: int
    parts: int
    busy: list[list[float]] = field(default_factory=list)
    moves: list[list[Tenant]] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description="A billion runs a day, on paper.")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}, and the picture")
    options = parser.parse_args()
    tables, picture = everything()
    for table in tables.values():
        print(f"{table}\n")
    if options.write:
        PAGE.write_text(quoted(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
        IMAGE.write_text(picture, encoding="utf-8")
    return 0


def everything() -> tuple[dict[str, str], str]:
    """The tables by their places in the page, and the picture."""
    world, measured = World(), measured_costs()
    costs = read_costs(measured)
    outcome = simulate(world, CORES * BUSY / mixed(costs))
    picture = draw(outcome)
    return {"costs": measured, "carries": carries(costs), "cells": summary(world, outcome)}, picture


def measured_costs() -> str:
    """COSTS.md without its title."""
    return COSTS.read_text(encoding="utf-8").partition("\n\n")[2].strip()


def quoted(page: str, tables: dict[str, str]) -> str:
    """The page with these tables in their places."""
    for name, table in tables.items():
        begin, end = f"<!-- figures {name}: benchmarks/cells.py -->", f"<!-- end of figures {name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise SystemExit(f"{PAGE.name} has no place for {name}: {begin} ... {end}")
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


# What one PostgreSQL carries


@dataclass(frozen=True)
class Cost:
    """Of a run: processor time of PostgreSQL in seconds, and bytes of WAL."""

    processor: float
    wal: float


def read_costs(text: str) -> dict[str, Cost]:
    """The table of COSTS.md by its first column."""
    found = re.findall(r"^\| (.+?) \| ([\d,]+) µs \|.*\| ([\d,]+) B \|$", text, re.MULTILINE)
    return {name: Cost(_number(processor) / 1e6, _number(wal)) for name, processor, wal in found}


def mixed(costs: dict[str, Cost]) -> float:
    """Seconds of PostgreSQL for a run, the mean of the mix."""
    return sum(share * costs[name].processor for name, share in MIX.items())


def carries(costs: dict[str, Cost]) -> str:
    """What a PostgreSQL with CORES of its own carries of each kind of runs, and of the mix."""
    mix = Cost(mixed(costs), sum(share * costs[name].wal for name, share in MIX.items()))
    rows = []
    for name, cost in {**costs, "the mix of the simulation": mix}.items():
        rate = CORES * BUSY / cost.processor
        a_day = rate / MOST_OF_A_DAY * 86_400
        cells = f"{rate:,.0f}", f"{a_day / 1e6:,.0f} million", f"{rate * cost.wal / 1e6:,.1f} MB"
        rows.append(f"| {' | '.join((name, *cells, f'{a_day * BYTES_OF_HISTORY / 1e9:,.0f} GB'))} |")
    return (
        f"| {CORES} cores, {BUSY:.0%} of them busy in the busiest hour | runs a second | runs a day | WAL a second | "
        f"history a day |\n| --- | ---: | ---: | ---: | ---: |\n" + "\n".join(rows)
    )


# The simulation


def simulate(world: World, capacity: float) -> Outcome:
    """Place all tenants, then live through the days: hours with bursts, then changes and moves."""
    random = Random(world.seed)
    fleet = placed(world, capacity, random)
    outcome = Outcome(fleet, Work(capacity), len(fleet.cells), len(fleet.directory) - world.tenants)
    for _ in range(world.days):
        extra = bursts(world, fleet, random)
        for hour in range(24):
            demands = ((cell, cell.demands[hour] + extra[cell, hour]) for cell in fleet.cells)
            outcome.busy.append([outcome.work.an_hour(cell, demand) for cell, demand in demands])
        change(world, fleet, random)
        outcome.moves.append(fleet.rebalance())
    return outcome


def placed(world: World, capacity: float, random: Random, choices: int = 1_000) -> Fleet:
    """All tenants in cells, of which there are from the start as many as all need together in their busiest hour."""
    fleet = Fleet(capacity, random, choices=choices)
    tenants = made(world, random)
    everybody = Cell(0, {tenant.name: tenant for tenant in tenants})
    everybody.recount()
    for _ in range(math.ceil(everybody.peak / fleet.room)):
        fleet.open_cell()
    for tenant in tenants:
        fleet.add(tenant)
    return fleet


def made(world: World, random: Random) -> list[Tenant]:
    """Tenants whose loads are those of a Zipf distribution, in any order."""
    weights = [rank**-world.zipf for rank in range(1, world.tenants + 1)]
    scale = world.runs_a_day / 86_400 / sum(weights)
    regions = random.choices(range(len(CURVES)), world.regions, k=world.tenants)
    tenants = [
        Tenant(f"t{rank}", region, scale * weight)
        for rank, (region, weight) in enumerate(zip(regions, weights, strict=True), 1)
    ]
    random.shuffle(tenants)
    return tenants


def change(world: World, fleet: Fleet, random: Random) -> None:
    """A day later: everybody grows a little, wanders, and some double or halve."""
    drift = math.log1p(world.growth) - world.wander**2 / 2
    for cell in fleet.cells:
        for tenant in cell.tenants.values():
            tenant.rate *= math.exp(drift + world.wander * random.gauss(0, 1))
            if random.random() < world.restless:
                tenant.rate *= 2 if random.random() < 1 / 3 else 0.5
        cell.recount()


def bursts(world: World, fleet: Fleet, random: Random) -> dict[tuple[Cell, int], float]:
    """What cells get beside the usual, in hours of a day: runs a second."""
    extra: dict[tuple[Cell, int], float] = defaultdict(float)
    for name in random.sample(list(fleet.directory), int(world.bursts * len(fleet.directory))):
        cell = fleet.directory[name]
        times = min(world.burst_median * math.exp(random.gauss(0, 1)), world.burst_most)
        extra[cell, random.randrange(24)] += times * cell.tenants[name].rate
    return extra


# What it says


def summary(world: World, outcome: Outcome) -> str:
    """A table of it. Loses the fullest cell at the end."""
    rows = [
        *_rows_of_cells(world, outcome),
        *_rows_of_moves(outcome),
        *_rows_of_directory(world, outcome.fleet),
        *_rows_of_a_loss(outcome.fleet),
    ]
    return "| what | |\n| --- | ---: |\n" + "\n".join(f"| {what} | {figure} |" for what, figure in rows)


def _rows_of_cells(world: World, outcome: Outcome) -> list[tuple[str, str]]:
    busy = sorted(share for hour in outcome.busy for share in hour)
    halved, doubled, best, two = (
        placed(world, outcome.fleet.capacity * times, Random(world.seed), choices)
        for times, choices in ((2, 1_000), (0.5, 1_000), (1, 1_000), (1, 2))
    )
    emptiest = (min(cell.peak for cell in fleet.cells) / fleet.capacity for fleet in (best, two))
    stretches = [*outcome.work.stretches, *(hours for _, hours in outcome.work.backlogs.values())]
    largest = world.runs_a_day / sum(rank**-world.zipf for rank in range(1, world.tenants + 1))
    return [
        ("runs a day, at the beginning", f"{world.runs_a_day:,.0f}"),
        ("tenants", f"{world.tenants:,}"),
        ("the largest tenant: runs a day", f"{largest:,.0f}"),
        ("its runs a second in its busiest hour", f"{largest / 86_400 * MOST_OF_A_DAY:,.0f}"),
        ("what a cell carries: runs a second", f"{outcome.fleet.capacity:,.0f}"),
        ("tenants more, because some are in parts", f"{outcome.parts}"),
        (f"cells at the beginning, and after {world.days} days", f"{outcome.first_cells}, {len(outcome.fleet.cells)}"),
        ("cells at the beginning, if a run cost half, and twice as much", f"{len(halved.cells)}, {len(doubled.cells)}"),
        (
            "the emptiest cell at the beginning: with the best of all for each tenant, with the better one of two",
            ", ".join(f"{share:.0%}" for share in emptiest),
        ),
        ("processors of a cell busy: p50 of all hours", f"{statistics.median(busy):.0%}"),
        ("p99", f"{busy[int(0.99 * len(busy))]:.0%}"),
        ("most", f"{busy[-1]:.0%}"),
        ("hours of a cell above what is planned", f"{sum(share > BUSY for share in busy) / len(busy):.1%}"),
        (
            "times that a cell had more than it could do, the longest in hours",
            f"{len(stretches)}, {max(stretches, default=0)}",
        ),
    ]


def _rows_of_moves(outcome: Outcome) -> list[tuple[str, str]]:
    counts = sorted(len(day) for day in outcome.moves)
    sizes = [
        sum(tenant.rate for tenant in day) * 86_400 * HISTORY_DAYS * BYTES_OF_HISTORY / 1e9 for day in outcome.moves
    ]
    return [
        ("tenants that move a day: mean, most", f"{statistics.mean(counts):.1f}, {counts[-1]}"),
        ("days without a move", f"{counts.count(0)} of {len(counts)}"),
        (
            f"history that moves with them, {HISTORY_DAYS} days of it: mean a day, most",
            f"{statistics.mean(sizes):,.0f} GB, {max(sizes):,.0f} GB",
        ),
    ]


def _rows_of_directory(world: World, fleet: Fleet) -> list[tuple[str, str]]:
    sends = [cell.tenants[name].rate for name, cell in fleet.directory.items()]
    rows = len(sends)
    return [
        ("directory: rows, size", f"{rows:,}, {rows * ROW_OF_DIRECTORY / 1e6:,.0f} MB"),
        *(
            (
                f"look-ups a second by {world.processes} processes that each remember an entry for {seconds} s",
                f"{look_ups(sends, world.processes, seconds):,.0f}",
            )
            for seconds in (10, 60)
        ),
        (
            "questions a second, if each has all entries and asks every 2 s what has changed",
            f"{world.processes / 2:,.0f}",
        ),
    ]


def look_ups(sends: Sequence[float], processes: int, seconds: float) -> float:
    """How often any process meets a tenant that it does not remember, if sends are spread evenly and come at random.

    A process that has asked remembers for `seconds`, and asks again with the next send after that.
    """
    return sum(processes / (seconds + processes / rate) for rate in sends)


def _rows_of_a_loss(fleet: Fleet) -> list[tuple[str, str]]:
    lost = max(fleet.cells, key=lambda cell: cell.peak)
    count, share = len(lost.tenants), sum(lost.demands) / sum(sum(cell.demands) for cell in fleet.cells)
    opened = fleet.lose(lost)
    return [
        ("the fullest cell is lost: tenants, part of all runs", f"{count:,}, {share:.1%}"),
        ("cells to open, so that the others stay within what is planned", f"{opened}"),
    ]


def draw(outcome: Outcome) -> str:
    """Of the last week, how busy the busiest and the median cell were in each hour."""
    week = outcome.busy[-7 * 24 :]
    lines = [
        Curve(name, [(hour / 24, 100 * of(cells)) for hour, cells in enumerate(week)], kind)
        for name, of, kind in (("the busiest cell", max, "ours"), ("the median cell", statistics.median, "other"))
    ]
    about = f"Simulated: a billion runs a day in {len(week[-1])} cells, bursts included. Planned are {BUSY:.0%}."
    return curves("How busy the processors of PostgreSQL are", about, "days", lines, unit="%")


def _number(text: str) -> float:
    return float(text.replace(",", ""))


if __name__ == "__main__":
    raise SystemExit(main())
