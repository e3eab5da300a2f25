"""The simulation of cells loses no tenant, doubles none, and puts nobody where there is no room."""

import importlib
import sys
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.docs.pages import ROOT

CAPACITY = 100.0

RATES = st.floats(0.001, 3 * CAPACITY)
FACTORS = st.sampled_from([0.2, 0.9, 1.0, 1.1, 1.5, 4.0])


def of_benchmarks(*names):
    """Modules of the folder of the benchmarks, which is no package."""
    before = list(sys.path)
    sys.path.append(str(ROOT / "benchmarks"))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path[:] = before


fleets, cells = of_benchmarks("fleet", "cells")


def loads(fleet):
    """Runs a second by tenants, those in parts together."""
    found = defaultdict(float)
    for cell in fleet.cells:
        for name, tenant in cell.tenants.items():
            found[name.partition(".")[0]] += tenant.rate
    return found


@contextmanager
def fills_no_cell_beyond(fleet, limit):
    """None is fuller at the end of the block than before, unless it is within the limit."""
    before = {cell: cell.peak for cell in fleet.cells}
    yield
    assert [cell.peak for cell in fleet.cells if cell.peak > max(before.get(cell, 0), limit) + 1e-6] == []


class Fleets(RuleBasedStateMachine):
    @initialize(choices=st.sampled_from([1, 2, 1_000]), seed=st.integers(0, 3))
    def begin(self, choices, seed):
        self.fleet = fleets.Fleet(CAPACITY, Random(seed), choices=choices)
        self.added = {}
        self.is_changed = False

    @rule(region=st.sampled_from(range(len(fleets.CURVES))), rate=RATES)
    def add(self, region, rate):
        name = f"t{len(self.added)}"
        self.added[name] = rate
        with fills_no_cell_beyond(self.fleet, self.fleet.room):
            self.fleet.add(fleets.Tenant(name, region, rate))

    @rule(factors=st.lists(FACTORS, min_size=1, max_size=5))
    def change(self, factors):
        names = sorted(self.added)
        factor_of = {name: factors[at % len(factors)] for at, name in enumerate(names)}
        self.added = {name: rate * factor_of[name] for name, rate in self.added.items()}
        for cell in self.fleet.cells:
            for name, tenant in cell.tenants.items():
                tenant.rate *= factor_of[name.partition(".")[0]]
            cell.recount()
        self.is_changed = True

    @rule()
    def rebalance(self):
        with fills_no_cell_beyond(self.fleet, self.fleet.room):
            self.fleet.rebalance()
        assert all(cell.peak <= self.fleet.crowded for cell in self.fleet.cells)
        self.is_changed = False

    @precondition(lambda self: self.fleet.cells and not self.is_changed)
    @rule(at=st.integers(0))
    def lose(self, at):
        with fills_no_cell_beyond(self.fleet, self.fleet.capacity):
            self.fleet.lose(self.fleet.cells[at % len(self.fleet.cells)])

    @invariant()
    def each_tenant_is_there_once_with_all_of_its_load(self):
        assert loads(self.fleet) == pytest.approx(self.added)
        assert sum(len(cell.tenants) for cell in self.fleet.cells) == len(self.fleet.directory)

    @invariant()
    def the_directory_names_the_cell_that_has_the_tenant(self):
        assert all(name in cell.tenants for name, cell in self.fleet.directory.items())

    @invariant()
    def a_cell_does_what_its_tenants_do(self):
        for cell in self.fleet.cells:
            of_tenants = sum(one.rate * fleets.CURVES[one.region][7] for one in cell.tenants.values())
            assert cell.demands[7] == pytest.approx(of_tenants, abs=1e-6)


TestFleets = Fleets.TestCase
TestFleets.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)


@pytest.fixture(scope="module")
def world():
    return cells.World(tenants=500, days=5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_simulation_keeps_every_tenant(world, seed):
    outcome = cells.simulate(replace(world, seed=seed), capacity=2_000)
    assert sorted(loads(outcome.fleet)) == sorted(f"t{rank}" for rank in range(1, 501))


def test_the_simulation_is_the_same_each_time(world):
    once, again = (cells.simulate(world, capacity=2_000) for _ in range(2))
    assert cells.summary(world, once) == cells.summary(world, again)


def test_the_tenants_of_the_simulation_do_together_what_it_says(world):
    tenants = cells.made(world, Random(1))
    assert sum(tenant.rate for tenant in tenants) * 86_400 == pytest.approx(world.runs_a_day)


def test_what_a_cell_does_not_get_done_is_done_in_the_next_hours():
    work, cell = cells.Work(capacity=60 * cells.BUSY), fleets.Cell(1)
    assert [work.an_hour(cell, demand) for demand in (30, 150, 0, 15, 15)] == [0.5, 1.0, 1.0, 0.75, 0.25]
    assert work.stretches == [2]


def test_a_process_that_remembers_nothing_looks_up_each_send():
    assert cells.look_ups([3.0, 0.5], processes=7, seconds=0) == pytest.approx(3.5)


def test_a_process_looks_up_a_tenant_at_most_once_in_the_time_that_it_remembers():
    assert cells.look_ups([1e9], processes=7, seconds=10) == pytest.approx(0.7)


def test_a_page_without_a_place_for_a_table_is_refused():
    with pytest.raises(SystemExit, match="no place for cells"):
        cells.quoted("", {"cells": "| a |"})


def test_the_page_has_what_the_costs_say():
    measured = cells.measured_costs()
    page = cells.PAGE.read_text(encoding="utf-8")
    assert measured in page
    assert cells.carries(cells.read_costs(measured)) in page


@pytest.mark.slow
def test_the_page_and_its_picture_are_what_the_simulation_says():
    tables, picture = cells.everything()
    page = cells.PAGE.read_text(encoding="utf-8")
    assert cells.quoted(page, tables) == page
    assert cells.IMAGE.read_text(encoding="utf-8") == picture
