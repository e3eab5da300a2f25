"""What people type."""

from datetime import UTC, datetime, timedelta

import pytest
import typer

from cgk_tasks.cli import values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1d2h", 93_600),
        ("2w", 1_209_600),
        ("1.5h", 5400),
        ("90", 90),
        ("1h 30m", 5400),
    ],
)
def test_a_duration_is_read(text, seconds):
    assert values.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "1x", "1d2", "h1", "99999999999w"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(typer.BadParameter):
        values.duration(text)


def test_a_time_is_read_with_its_zone():
    assert values.time("2026-03-01T09:00:00+01:00") == datetime(2026, 3, 1, 8, tzinfo=UTC)


def test_a_time_without_a_zone_is_refused_with_the_way_to_write_it():
    with pytest.raises(typer.BadParameter, match="2026-03-01T09:00:00Z is UTC"):
        values.time("2026-03-01T09:00:00")


@pytest.mark.parametrize("text", ["tomorrow", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(typer.BadParameter, match="is not a time"):
        values.time(text)


@pytest.mark.parametrize("text", ["{", "[]", "1", "null"])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(typer.BadParameter):
        values.json_object(text)
