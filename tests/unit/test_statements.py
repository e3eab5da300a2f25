"""The `.sql` files: what the reader makes of them, and that each transition of a run has one text."""

import re
from importlib.resources import files

import pytest

from cgk_tasks.sql import door
from cgk_tasks.sql.statements import Statement, every_statement, parse

TEXTS = {
    entry.name: entry.read_text(encoding="utf-8")
    for entry in files("cgk_tasks.sql").iterdir()
    if entry.name.endswith(".sql")
}


def test_a_statement_knows_its_file_and_name():
    (one,) = parse("runs", "-- name: clock\nSELECT now();\n").values()
    assert (one, one.file, one.name, one.label) == ("SELECT now()", "runs", "clock", "runs.clock")


def test_a_fragment_stands_once_and_is_taken_in_without_its_comment():
    text = "-- fragment: key\n-- Which row.\nid = %(id)s\n-- name: find\nSELECT 1 WHERE {{key}};"
    assert parse("x", text)["find"] == "SELECT 1 WHERE id = %(id)s"


def test_a_fragment_may_have_an_argument_that_takes_in_fragments():
    text = (
        "-- fragment: one\n1\n-- fragment: gone(which)\nDELETE FROM t WHERE {which} RETURNING {{one}}\n"
        "-- name: drop\n{{gone(f(id) = {{one}})}};"
    )
    assert parse("x", text)["drop"] == "DELETE FROM t WHERE f(id) = 1 RETURNING 1"


@pytest.mark.parametrize("use", ["{{other}}", "{{key(id)}}"])
def test_a_use_that_fits_no_fragment_is_an_error_of_the_file(use):
    with pytest.raises(LookupError):
        parse("x", f"-- fragment: key\nid\n-- name: find\nSELECT {use}")


def test_no_statement_is_left_with_an_open_fragment():
    assert [one.label for one in every_statement() if "{{" in one or "}}" in one] == []


@pytest.mark.parametrize("kind", ["name", "fragment"])
def test_every_name_is_there_once_in_its_file(kind):
    names = [
        (file, name) for file, text in TEXTS.items() for name in re.findall(rf"^-- {kind}: (\w+)", text, re.MULTILINE)
    ]
    assert len(names) == len(set(names))


def test_a_run_is_closed_by_one_text():
    texts = {file: len(re.findall(r"INSERT\s+INTO\s+cgk\.run_history\b", text)) for file, text in TEXTS.items()}
    assert {file: number for file, number in texts.items() if number} == {"transitions.sql": 1}


def test_a_run_is_made_by_one_text_its_copy_and_one_with_fewer_columns():
    texts = {file: len(re.findall(r"(?:INSERT\s+INTO|COPY)\s+cgk\.runs\b", text)) for file, text in TEXTS.items()}
    assert {file: number for file, number in texts.items() if number} == {"transitions.sql": 3}


def test_only_the_state_table_writes_runs():
    writing = re.compile(r"(?:UPDATE|DELETE\s+FROM|INSERT\s+INTO|COPY)\s+cgk\.(?:runs|run_history)\b")
    assert {one.label for one in every_statement() if writing.search(one) and one.file != "transitions"} == {
        "housekeeping.forget_closed_runs",
        # A migration's, which change no run's state.
        "content.convert_runs", "content.convert_run_history",
        "content.set_search_fields_of_runs", "content.set_search_fields_of_run_history",
    }  # fmt: skip


def test_no_module_writes_runs_past_the_sql_files():
    writing = re.compile(r"(?:UPDATE|DELETE\s+FROM|INSERT\s+INTO)\s+cgk\.(?:runs|run_history)\b")
    package = files("cgk_tasks")
    modules = [path for path in package.rglob("*.py") if "migrations" not in path.parts]  # type: ignore[attr-defined]
    assert [str(path) for path in modules if writing.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("name", ["claim", "finish"])
def test_the_statement_for_one_run_is_made_of_the_text_for_many(name):
    assert re.search(rf"^-- name: {name}_one\n(?:-- .*\n)*\{{\{{", TEXTS["transitions.sql"], re.MULTILINE)
    assert re.search(rf"^-- name: {name}\n(?:-- .*\n)*\{{\{{", TEXTS["transitions.sql"], re.MULTILINE)


class Failing:
    """A connection on which every statement fails."""

    def exec_driver_sql(self, _statement, _values):
        raise ConnectionError("gone")


def test_an_observer_hears_of_a_statement_that_failed():
    heard = []

    def observer(statement, seconds, error):
        heard.append((statement.label, seconds >= 0, type(error)))

    door.observe(observer)
    try:
        with pytest.raises(ConnectionError):
            door.execute(Failing(), Statement("runs", "clock", "SELECT now()"))
    finally:
        door.forget_observer(observer)
    assert heard == [("runs.clock", True, ConnectionError)]


class Refused(BaseException):
    pass


def test_what_is_called_before_a_statement_can_keep_it_from_postgresql():
    asked, heard = [], []

    def observer(*told):
        heard.append(told)

    def refuse(statement, values):
        asked.append((statement.label, values))
        raise Refused

    door.observe(observer, before=refuse)
    try:
        with pytest.raises(Refused):
            door.execute(Failing(), Statement("runs", "clock", "SELECT %(a)s"), {"a": 1})
    finally:
        door.forget_observer(observer)
    assert (asked, heard) == ([("runs.clock", {"a": 1})], [])
    with pytest.raises(ConnectionError):
        door.execute(Failing(), Statement("runs", "clock", "SELECT now()"))
