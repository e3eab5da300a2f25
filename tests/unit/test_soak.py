"""What the benchmark of a whole day judges by: it sends what it says, and sees what grows, is lost or is done twice."""

import importlib
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.docs.pages import ROOT


def of_benchmarks(*names):
    """Modules of the folder of the benchmarks, which is no package."""
    before = list(sys.path)
    sys.path.append(str(ROOT / "benchmarks"))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path[:] = before


soak_day, soak_figures, soak_page, soak_record, soak_seen, soak_verdict = of_benchmarks(
    "soak_day", "soak_figures", "soak_page", "soak_record", "soak_seen", "soak_verdict"
)

DAY = soak_day.Day(runs=1_000_000, tenants=1_000, minutes=55)
PARTS = 40


def points(figure):
    """A figure by the part of the day."""
    return [(nth / PARTS, figure(nth / PARTS)) for nth in range(PARTS + 1)]


def is_flat(figure, **options):
    return soak_verdict.compared("it", "", points(figure), **{"part": 0.1, "slack": 1.0, **options}).is_flat


# ---- the day


def test_a_day_has_the_runs_that_it_says():
    floods = len(DAY.floods) * DAY.of_a_flood
    steady = DAY.due_by(DAY.seconds)
    ticks = 55 * DAY.tenants
    children = soak_day.KINDS["trip"] * steady
    assert steady + floods + ticks + children == pytest.approx(DAY.runs, rel=0.001)


def test_the_evening_has_the_load_of_the_morning_and_noon_more():
    quarters = [DAY.due_by(DAY.seconds * (nth + 1) / 4) - DAY.due_by(DAY.seconds * nth / 4) for nth in range(4)]
    assert quarters[0] == pytest.approx(quarters[3], abs=2)
    assert quarters[1] == pytest.approx(quarters[2], abs=2)
    assert quarters[1] > 1.5 * quarters[0]


def test_more_is_due_the_later_it_is():
    due = [DAY.due_by(DAY.seconds * part) for part, _ in points(float)]
    assert due == sorted(due)


def sent_in(day, open_runs=lambda: 0):
    wanted = []
    sent = soak_day.send_a_day(day, wanted.extend, open_runs)
    return wanted, sent


def test_all_of_a_day_is_sent_with_the_numbers_of_each_kind_from_0_without_a_gap():
    wanted, sent = sent_in(soak_day.Day(runs=3_000, tenants=20, minutes=0.01))
    numbers = {kind: [one.number for one in wanted if one.kind == kind] for kind in soak_day.KINDS}
    assert numbers == {kind: list(range(count)) for kind, count in sent.counts.items()}
    assert sum(sent.counts.values()) == pytest.approx(3_000 / 1.03, rel=0.01)


def test_floods_are_of_tenants_whose_plans_let_them_through():
    wishes = soak_day.Wishes(DAY)
    tenants = [one.tenant for _ in range(300) for one in wishes.flood(1)]
    assert len(set(tenants)) > 100
    assert "free" not in {soak_day.plan_of(int(tenant[1:]), DAY.tenants) for tenant in tenants}


def test_the_day_stands_still_while_too_many_runs_are_open():
    answers = iter([soak_day.OPEN_AT_MOST + 1, soak_day.OPEN_AT_MOST + 1])
    wanted, sent = sent_in(soak_day.Day(runs=300, tenants=5, minutes=0.01), lambda: next(answers, 0))
    assert sent.waited > 0.4
    assert len(wanted) == sum(sent.counts.values())


# ---- what is flat


def test_what_stays_as_it_is_is_flat():
    assert is_flat(lambda _: 100.0)


def test_what_is_more_at_noon_and_less_in_the_evening_is_flat():
    assert is_flat(lambda at: 100.0 - 80 * abs(at - 0.5), of=max)


def test_what_grows_while_caches_are_filled_is_flat():
    assert is_flat(lambda at: 100.0 * min(1.0, at / 0.2))


def test_what_grows_all_day_is_not_flat():
    assert is_flat(lambda at: 100.0 + 50 * at) is False


def test_a_table_that_grows_all_day_is_not_flat():
    assert is_flat(lambda at: 100.0 * at, of=max, part=0.2) is False


def test_a_lateness_that_comes_in_the_evening_is_not_flat():
    assert is_flat(lambda at: 0.2 if at < 0.8 else 9.0, before=soak_verdict.MORNING, part=1.0) is False


def test_nothing_is_said_of_what_was_not_seen_in_the_evening():
    assert soak_verdict.compared("it", "", [(0.4, 1.0)], part=0.1, slack=0.1).is_flat is None


# ---- what was seen


def sample(at, *, child=100.0, dead=0):
    """At a part of the day."""
    seconds = at * DAY.seconds
    table = soak_figures.TableFigures(heap=20.0, indexes=10.0, dead=dead, vacuums=0)
    memory = dict.fromkeys(soak_seen.MEMORY, 50.0) | {"worker's child": child}
    return soak_figures.Sample(
        at=seconds,
        memory=memory,
        tables={"runs": table, "lanes": table, "run_history": table},
        wal=2e-3 * DAY.runs * at,
        catalog=30.0,
        open_runs=100,
        held=5,
        processor={"worker": 3e-3 * DAY.runs * at, "PostgreSQL": 1e-3 * DAY.runs * at},
        busy=0.5,
    )


def seen(samples, counts=()):
    every = DAY.seconds / PARTS
    late = {nth: soak_record.Late(100, 0.1, 0.2) for nth in range(PARTS)}
    closed = dict.fromkeys(range(PARTS), DAY.runs // PARTS)
    record = soak_record.Record(late, late, late, closed, 0.5)
    return soak_seen.Seen(
        DAY, every, DAY.seconds, 0.0, 3.0, samples, record, counts, [(at, 0.1) for at, _ in points(float)]
    )


def a_day(**figures):
    """Samples of a whole day; a figure may be a function of its part."""
    return [sample(at, **{name: figure(at) for name, figure in figures.items()}) for at, _ in points(float)]


def verdicts(one):
    return {verdict.what: verdict.is_flat for verdict in one.verdicts}


def test_a_day_in_which_nothing_grows_is_right():
    one = seen(a_day(), [soak_record.Count("runs", 10, 10)])
    assert set(verdicts(one).values()) == {True}
    assert one.is_right


@pytest.mark.parametrize(
    ("figures", "what"),
    [
        ({"child": lambda at: 100 + 60 * at}, "memory: a child of the worker"),
        ({"dead": lambda at: int(200_000 * at)}, "dead rows: cgk.runs"),
    ],
)
def test_a_day_in_which_something_grows_is_not_right(figures, what):
    one = seen(a_day(**figures))
    assert verdicts(one)[what] is False
    assert not one.is_right


@pytest.mark.parametrize("found", [9, 11])
def test_a_day_that_has_lost_a_run_or_done_one_twice_is_not_right(found):
    assert not seen(a_day(), [soak_record.Count("runs", 10, found)]).is_right


def test_what_a_run_takes_is_what_has_grown_by_the_runs_that_ended():
    assert [cost for _, cost in seen(a_day()).a_run(lambda one: 1e6 * one.wal)] == pytest.approx([2e3] * PARTS)


def test_the_picture_has_a_curve_for_each_name_in_its_panels():
    picture = ET.fromstring(soak_page.picture(seen(a_day())))
    curves = list(picture.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(curves) == sum(len(names) for *_, names in soak_page._PANELS)
    heights = {float(pair.split(",")[1]) for one in curves for pair in one.get("points").split()}
    assert all(0 < height < float(picture.get("height")) for height in heights)
