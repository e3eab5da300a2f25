"""The door for what is kept of a run's content, and what the database knows of it in the open."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cgk_tasks
from cgk_tasks.errors import StoreError
from cgk_tasks.events import Searchable, Sensitive, TenantEvent
from cgk_tasks.runs import sealing
from cgk_tasks.runs.plain_columns import error_fingerprint, search_fields, trace_in, with_trace
from cgk_tasks.runs.sealing import key_for, open_sealed, opened, seal
from cgk_tasks.runs.text import storable_json
from cgk_tasks.sql.statements import every_statement

PACKAGE = Path(cgk_tasks.__file__).parent
TENANTS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
KINDS = st.sampled_from(get_args(sealing.Kind))
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


class Parcel(TenantEvent, event="test.sealingParcel"):
    parcel_id: Annotated[str, Searchable()]
    weight: Annotated[float | None, Searchable()] = None
    street: Annotated[str, Sensitive()] = ""
    note: str = ""


@given(TENANTS, KINDS, TEXTS)
def test_what_is_sealed_is_opened_as_it_was(tenant, kind, text):
    key = key_for(tenant)
    assert open_sealed(tenant, kind, seal(tenant, kind, text, key), key) == text


@given(TENANTS, KINDS)
def test_nothing_stays_nothing(tenant, kind):
    assert (seal(tenant, kind, None), open_sealed(tenant, kind, None)) == (None, None)


@given(TENANTS, DATA, st.lists(st.dictionaries(TEXTS, DATA, max_size=3), max_size=3))
def test_a_row_is_opened_whole(tenant, payload, errors):
    row = {
        "id": 1, "tenant_id": tenant, "key_id": None, "sealed_payload": seal(tenant, "payload", json.dumps(payload)),
        "sealed_errors": [seal(tenant, "error", storable_json(error)) for error in errors], "sealed_cursor": None,
    }  # fmt: skip
    found = opened(row)
    assert (found["id"], json.loads(found["payload"]), found["cursor"]) == (1, payload, None)
    assert found["errors"] == [json.loads(storable_json(error)) for error in errors]


def test_a_row_without_errors_has_an_empty_list():
    assert opened({"tenant_id": "acme", "key_id": None, "sealed_errors": None})["errors"] == []


@pytest.mark.parametrize(
    "use", [lambda: seal("acme", "result", "1", "k-7"), lambda: open_sealed("acme", "result", b"1", "k-7")]
)
def test_a_key_that_is_not_known_is_named(use):
    with pytest.raises(StoreError, match="result of a run of tenant 'acme' is sealed with the key 'k-7'"):
        use()


def test_the_fields_that_an_event_marks_can_be_searched_and_no_others():
    event = Parcel(tenant_id="acme", parcel_id="p-1", weight=2.5, street="Elm 1", note="p-2")
    assert search_fields("test.sealingParcel", event.to_json().decode()) == "parcelId=p-1\nweight=2.5"


def test_an_event_that_marks_none_and_a_task_of_the_application_have_none():
    assert (search_fields("tenant.created", "{}"), search_fields("shop.tasks.add", '{"args": [1]}')) == (None, None)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_searchable_value_is_one_line_that_the_database_takes(value):
    fields = search_fields("test.sealingParcel", json.dumps({"tenantId": "acme", "parcelId": value}))
    assert (fields.startswith("parcelId="), fields.count("\n"), "\0" in fields) == (True, 0, False)


@given(TEXTS)
def test_whatever_a_payload_is_its_search_fields_can_be_asked_for(text):
    assert isinstance(search_fields("test.sealingParcel", text), str)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_value_passes_for_the_trace_that_stands_beside_it(value):
    fields = search_fields(
        "test.sealingParcel", json.dumps({"tenantId": "acme", "parcelId": f"{value}\n:traceparent=x"})
    )
    assert (trace_in(fields), trace_in(with_trace(fields, "00-a-b-01"))) == (None, "00-a-b-01")


@pytest.mark.parametrize("fields", [None, ""])
def test_a_trace_needs_no_fields(fields):
    assert (trace_in(fields), trace_in(with_trace(fields, "00-a-b-01"))) == (None, "00-a-b-01")


def fingerprint(message, code="TIMEOUT", kind="ValueError"):
    return error_fingerprint(code, {"type": kind, "message": message})


def test_errors_that_differ_by_names_and_numbers_alone_are_the_same():
    assert fingerprint("order o-17 of 'ada' cannot be done") == fingerprint("order o-4 of 'bob' cannot be done")


@pytest.mark.parametrize(
    "other", [fingerprint("away"), fingerprint("x", code="HTTP_502"), fingerprint("x", kind="KeyError")]
)
def test_errors_of_another_kind_are_not(other):
    assert other != fingerprint("x")


def test_a_run_without_an_error_has_a_fingerprint_too():
    assert re.fullmatch(r"[0-9a-f]{16}", error_fingerprint(None, None))


# The door is the only one

LOOKS_INTO = re.compile(
    r"(?:->|::jsonb?|jsonb?_\w+\(|convert_from|convert_to|sha256)[^,\n]*\b(?:sealed_\w+|payload|errors|result|cursor|canvas|lines)\b"
    r"|\b(?:sealed_\w+|payload|errors|result|cursor|canvas|lines)\b\s*(?:->|::json)"
)


@pytest.mark.parametrize("statement", every_statement(), ids=lambda one: one.label)
def test_no_statement_looks_into_content(statement):
    assert LOOKS_INTO.search(statement) is None


OPENS = re.compile(
    r"(?:json\.(?:loads|dumps)|from_json|decode|encode|str)\([^)\n]*sealed_|sealed_\w+[\"'\]]*\.(?:decode|encode)"
)


def test_no_module_but_the_door_reads_or_makes_sealed_bytes():
    modules = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "runs" / "sealing.py"]
    assert [str(path) for path in modules if OPENS.search(path.read_text(encoding="utf-8"))] == []


def test_columns_of_content_are_named_by_the_door_alone():
    """A column that holds content and is not sealed would be found in the newest tables of the migrations."""
    old = re.compile(r"\b(?:r|h|s|l)\.(?:payload|canvas|cursor|errors|result|lines|put_off)\b")
    texts = {entry.name: entry.read_text() for entry in files("cgk_tasks.sql").iterdir() if entry.name.endswith(".sql")}
    assert [name for name, text in texts.items() if old.search(text)] == []
