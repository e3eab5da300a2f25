"""The page about performance shows what was measured: tables, pictures, and profiles by module."""

# ruff: noqa: RUF001, RUF003 - × is meant

import importlib.util
import re
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.docs.pages import ROOT

RESULTS = """\
# Benchmarks

Made by `python benchmarks/run.py` on 2026-01-02 in 9 s. Everything in one run.

- Machine: a machine

| what | plain Celery | cgk_tasks | ratio | budget | within |
| --- | ---: | ---: | ---: | ---: | :---: |
| one send | 500 µs | 400 µs | 0.80 × | ≤ 1 × | yes |

## Beside other queues

About them.

| system | drains | × plain Celery | bulk send | one send, p50 | lone job, p50 | p99 | guarantees |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| cgk_tasks<br>prefork | 10,000/s | 10.0 × | 40,000/s | 400 µs | 1.00 ms | 2.00 ms | Durable in PostgreSQL. |
| other<br>processes | 1,000/s | 1.0 × | 2,000/s | 500 µs | 1.00 ms | 2.00 ms | In Redis only. |

## The shape of the cost

About it.

| with | drains | bulk send | cgk.runs | cgk.run_history |
| --- | ---: | ---: | ---: | ---: |
| 100 open runs waiting for another day | 9,000/s | 30,000/s | 1 MB | 1 MB |
"""


@pytest.fixture
def load(monkeypatch):
    """Import a file of the repository that belongs to no package."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])

    def load_file(path):
        spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load_file


@pytest.fixture
def quoting(load):
    return load(ROOT / "scripts/quote_results.py")


def test_the_readme_quotes_only_the_comparison_with_plain_celery(quoting):
    readme = "<!-- figures: scripts/quote_results.py -->\nold\n<!-- end of figures -->"
    assert quoting.quoted(readme, RESULTS, ("one send",)).splitlines()[1:-1] == [
        "| what | plain Celery | cgk_tasks | ratio | better |",
        "| --- | ---: | ---: | ---: | --- |",
        "| one send | 500 µs | 400 µs | 0.80 × | lower |",
        "",
        "2026-01-02, a machine",
    ]


@pytest.mark.parametrize(
    ("place", "begins", "ends"),
    [
        ("conditions", "Made by", "a machine"),
        ("plain", "| what |", "| yes |"),
        ("others", "About them.", "In Redis only. |"),
        ("scale", "About it.", "| 1 MB |"),
    ],
)
def test_the_page_has_each_part_of_the_results_in_its_place(quoting, place, begins, ends):
    text = f"<!-- figures {place}: scripts/quote_results.py -->\nold\n<!-- end of figures {place} -->"
    _, *quoted, _ = quoting.page(text, RESULTS).splitlines()
    assert quoted[0].startswith(begins)
    assert quoted[-1].endswith(ends)


def test_the_pictures_draw_each_figure_in_proportion(quoting):
    picture = ET.fromstring(quoting.pictures(RESULTS)["performance.svg"])
    rows = [
        (box.get("class"), float(box.get("width")))
        for box in picture.iter("{http://www.w3.org/2000/svg}rect")
        if box.get("height") == "16"
    ]
    (ours, ours_drain), (_, ours_bulk), (other, other_drain), (_, other_bulk) = rows
    assert (ours, other) == ("ours", "other")
    assert ours_drain / other_drain == pytest.approx(10, rel=0.01)
    assert ours_bulk / other_bulk == pytest.approx(20, rel=0.01)


def test_a_profile_counts_the_standard_library_for_its_caller(load):
    profiles = load(ROOT / "benchmarks/profiles.py")
    send, dumps = ("send_job", "/x/cgk_tasks/client/api.py"), ("dumps", "/lib/python3.11/json/__init__.py")
    assert profiles.module_of([send, dumps]) == "cgk_tasks.client.api"


def test_a_profile_tells_waiting_from_working(load):
    profiles = load(ROOT / "benchmarks/profiles.py")
    execute = ("Cursor.execute", "/v/site-packages/psycopg/cursor.py")
    wait = ("Connection.wait", "/v/site-packages/psycopg/connection.py")
    assert profiles.module_of([execute]) == "psycopg"
    assert profiles.module_of([execute, wait]) == "waiting for PostgreSQL"


def test_a_profile_knows_the_step_of_a_run(load):
    profiles = load(ROOT / "benchmarks/profiles.py")
    packet = "run_packet (/x/cgk_tasks/worker/pipeline.py)"
    assert profiles.step_of(f"{packet};claim (/x/cgk_tasks/runs/store.py)") == "claim"
    assert profiles.step_of(f"{packet};Recorder.flush (/x/cgk_tasks/worker/recorder.py)") == "finish"
    assert profiles.step_of(f"{packet};run_one (/x/cgk_tasks/worker/pipeline.py)") == "run"
    assert profiles.step_of(packet) == "message"


def test_the_functions_by_which_a_profile_knows_the_steps_exist(load):
    marks = [mark for _, marks in load(ROOT / "benchmarks/profiles.py").STEPS for mark in marks]
    for function, file in (mark.split(" (") for mark in marks):
        assert re.search(rf"^ *def {function}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), function


def test_a_row_of_the_readme_that_is_no_longer_measured_is_named(quoting):
    with pytest.raises(SystemExit, match="no line for one walk"):
        quoting.quoted("", RESULTS, ("one send", "one walk"))
