"""What one attempt tells of its run."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.config import use_settings
from cgk_tasks.errors import PermanentError
from cgk_tasks.runs.report import RunReport

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_metadata_is_what_was_set(values):
    report = RunReport()
    report.update(values)
    assert (dict(report), json.loads(report.metadata()), len(report)) == (values, values, len(values))


def test_a_value_is_kept_as_it_was_when_it_was_set():
    report, rows = RunReport(), [1]
    report["rows"] = rows
    rows.append(2)
    report["rows"].append(3)
    assert report["rows"] == [1]


def test_what_is_taken_out_is_gone():
    report = RunReport()
    report.update(a=1, b=2)
    del report["a"]
    assert (dict(report), "a" in report) == ({"b": 2}, False)


def test_each_change_is_told():
    changes = []
    report = RunReport(changes.append)
    report["a"] = 1
    report.show(1, 2, "half")
    del report["a"]
    assert changes == [report] * 3


def test_it_begins_with_what_was_left():
    earlier, later = RunReport(), RunReport()
    earlier.show(2, 3, "two")
    later.recall(earlier.progress, {"a": [1]})
    later["b"] = 2
    assert (later.progress, dict(later)) == (earlier.progress, {"a": [1], "b": 2})


def test_a_message_is_cut():
    report = RunReport()
    report.show(1, None, "x" * 501)
    assert report.progress.message == "x" * 500


@pytest.mark.parametrize(
    ("done", "total"), [(-1, None), (float("nan"), None), (1, float("inf")), ("3", None), (True, None), (1, -2)]
)
def test_what_is_no_amount_is_refused_with_what_to_do(done, total):
    with pytest.raises(PermanentError, match="is no amount") as caught:
        RunReport().show(done, total, "")
    assert (caught.value.code, "ctx.progress(3, 10)" in caught.value.hint) == ("INVALID_PROGRESS", True)


@pytest.mark.parametrize("name", ["", "x" * 201, 3, None])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(PermanentError, match="is no text of 1 to 200"):
        RunReport()[name] = 1


def test_what_json_cannot_say_is_refused_and_the_rest_stays():
    report = RunReport()
    report["a"] = 1
    with pytest.raises(PermanentError, match="cannot be stored as JSON"):
        report["a"] = object()
    assert dict(report) == {"a": 1}


@pytest.fixture
def room(monkeypatch):
    monkeypatch.setenv("CGK_RUN_METADATA_BYTES", "20")
    use_settings(None)
    yield
    use_settings(None)


def test_more_than_there_is_room_for_is_refused_and_the_rest_stays(room):
    report = RunReport()
    report["a"] = "x" * 10
    with pytest.raises(PermanentError, match="more than 20 bytes") as caught:
        report["b"] = "y" * 10
    assert (caught.value.code, dict(report)) == ("METADATA_TOO_LARGE", {"a": "x" * 10})


def test_a_value_may_take_the_place_of_an_earlier_one_of_its_name(room):
    report = RunReport()
    report["a"] = "x" * 15
    report["a"] = "y" * 15
    assert report["a"] == "y" * 15
