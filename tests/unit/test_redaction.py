"""What is shown to those who may not see personal data: of payloads, and of what quotes them."""

import json
import traceback
from datetime import date
from decimal import Decimal
from typing import Annotated
from urllib.parse import urlencode

import pytest

from cgk_tasks.events import (
    CustomerCreated,
    OrderCreated,
    Searchable,
    Sensitive,
    TenantEvent,
    searchable_fields,
)
from cgk_tasks.events.base import WireModel
from cgk_tasks.events.fields import Email, Money, PersonalData, PersonName, PhoneNumber
from cgk_tasks.events.redaction import Redaction, redacted, redaction_of, summary

CUSTOMER = {"tenantId": "acme", "customerId": "c-1", "email": "ada@example.com"}
FORMS = ("event", "stored")


class Marked(TenantEvent, event="test.marked"):
    """A field with both marks."""

    note_id: Annotated[str, Searchable()] | None = None
    secret_id: Annotated[str, Searchable(), Sensitive()] | None = None


class Guest(WireModel):
    """Marks one of its fields."""

    room: str
    phone: PhoneNumber


class Address(WireModel):
    """Marks nothing itself."""

    street: str


class Booked(TenantEvent, event="test.booked"):
    """Personal data of every kind, at every depth."""

    booking_id: str = "booking-815"
    full_name: PersonName = "Clara Oswald"
    nickname: Annotated[str, Sensitive()] | None = None
    emails: list[Email] = []
    guests: list[Guest] = []
    address: Annotated[Address, Sensitive()] | None = None
    profile: PersonalData | None = None
    born: Annotated[date, Sensitive()] | None = None
    income: Annotated[Money, Sensitive()] | None = None
    pin: Annotated[int, Sensitive()] | None = None


class Part(WireModel):
    """Has parts of its own kind."""

    name: str
    parts: "list[Part]" = []
    owner: PersonName | None = None


class Assembled(TenantEvent, event="test.assembled"):
    """Of parts of parts."""

    part: Part


@pytest.fixture(params=FORMS)
def hide(request):
    """`hide(Booked(...))`: the redaction of an event as a worker has it, or as it is stored."""

    def make(event):
        return Redaction(event.event_name, event if request.param == "event" else json.loads(event.to_json()))

    return make


def booked(**fields):
    return Booked(tenant_id="acme", **fields)


class TestPayload:
    def test_ids_of_the_catalog_are_searchable(self):
        assert searchable_fields(OrderCreated, by_alias=True) == ("orderId", "shopifyOrderId", "customerId")

    def test_a_sensitive_field_is_never_searchable(self):
        assert searchable_fields(Marked) == ("note_id",)

    def test_the_mark_in_a_union_counts(self):
        assert "secretId" not in summary("test.marked", {"noteId": "n", "secretId": "s"})
        assert summary("test.marked", {"noteId": "n", "secretId": "s"}) == {"noteId": "n"}

    def test_a_summary_leaves_out_what_has_no_value(self):
        assert summary(CustomerCreated.event_name, {**CUSTOMER, "shopifyCustomerId": None}) == {"customerId": "c-1"}

    def test_sensitive_fields_are_left_out(self):
        assert redacted("customer.created", CUSTOMER) == {**CUSTOMER, "email": "[redacted]"}

    def test_what_has_itself_in_it_is_left_out_where_it_has_personal_data(self):
        payload = {"tenantId": "acme", "part": {"name": "p", "parts": [{"name": "q", "owner": "Ada"}]}}
        assert redacted("test.assembled", payload) == {"tenantId": "acme", "part": "[redacted]"}

    def test_of_an_unknown_event_nothing_is_shown_but_the_tenant(self):
        assert redacted("shop.unknown", {"tenantId": "acme", "x": 1}) == {"tenantId": "acme", "x": "[redacted]"}
        assert redacted("shop.unknown", ["x"]) == "[redacted]"
        assert summary("shop.unknown", {"orderId": "o"}) == {}


class TestText:
    @pytest.mark.parametrize(
        "text", ["no account for ada@example.com", "KeyError: 'ada@example.com'", "<ada@example.com>\nada@example.com"]
    )
    def test_personal_data_is_hidden_in_texts_that_quote_it(self, text):
        hidden = Redaction("customer.created", CUSTOMER).text(text)
        assert "ada@" not in hidden
        assert "[redacted]" in hidden

    @pytest.mark.parametrize(
        ("fields", "secret"),
        [
            ({"full_name": "Clara Oswald"}, "Clara Oswald"),
            ({"nickname": "Impossible Girl"}, "Impossible Girl"),
            ({"emails": ["clara@example.org"]}, "clara@example.org"),
            ({"guests": [Guest(room="r-12", phone="+4930123456")]}, "+4930123456"),
            ({"address": Address(street="Totters Lane 76")}, "Totters Lane 76"),
            ({"profile": {"likes": [{"food": "jammie dodgers"}]}}, "jammie dodgers"),
            ({"profile": {"card": 411111111111}}, "411111111111"),
            ({"born": date(1986, 11, 23)}, "1986-11-23"),
            ({"income": Decimal("5120.50")}, "5120.5"),
            ({"pin": 4711}, "4711"),
        ],
    )
    def test_every_kind_of_field_is_hidden(self, hide, fields, secret):
        assert hide(booked(**fields)).text(f"not found: {secret}!") == "not found: [redacted]!"

    def test_what_is_not_personal_stays(self, hide):
        event = booked(guests=[Guest(room="room-1234", phone="+4930123456")])
        text = "booking-815 of acme: room-1234"
        assert hide(event).text(text) == text

    @pytest.mark.parametrize(
        "quoted",
        [repr, json.dumps, lambda text: json.dumps(text, ensure_ascii=False), lambda text: urlencode({"q": text})],
        ids=["python", "json", "json in UTF-8", "web address"],
    )
    def test_however_it_is_quoted(self, hide, quoted):
        secret = 'O\'Brien "Zoë"\tSmith'
        assert "Brien" not in hide(booked(full_name=secret)).text(f"unknown: {quoted(secret)}")

    def test_a_secret_in_a_traceback_is_hidden(self, hide):
        event = booked(full_name="Clara\nOswald", emails=["clara@example.org"])
        try:
            raise LookupError(event.full_name, {"to": event.emails})
        except LookupError:
            text = traceback.format_exc()
        hidden = hide(event).text(text)
        assert ("Oswald" in hidden, "clara@" in hidden, "LookupError" in hidden) == (False, False, True)

    def test_the_longest_value_is_hidden_first(self, hide):
        event = booked(full_name="Totters Lane", nickname="Totters Lane 76")
        assert hide(event).text("Totters Lane 76, Totters Lane") == "[redacted], [redacted]"

    def test_a_value_is_not_looked_for_in_what_already_replaced_another(self, hide):
        assert hide(booked(full_name="Clara Oswald", nickname="redacted")).text("Clara Oswald") == "[redacted]"

    @pytest.mark.parametrize(
        ("name", "text", "shown"),
        [
            ("Al", "All is well, Al", "All is well, Al"),
            ("Ada", "Ada of Canada (Ada)", "[redacted] of Canada ([redacted])"),
            ("Clara", "Clara's Claravis", "[redacted]'s Claravis"),
            ("Oswald", "MrOswald", "Mr[redacted]"),
        ],
    )
    def test_short_values_are_hidden_as_whole_words_and_two_letters_never(self, hide, name, text, shown):
        assert hide(booked(full_name=name)).text(text) == shown

    def test_the_tenants_id_is_no_secret(self, hide):
        assert hide(booked(full_name="acme")).text("tenant acme") == "tenant acme"

    def test_of_an_unknown_event_every_value_is_hidden_but_the_tenants(self):
        hide = Redaction("shop.unknown", {"tenantId": "acme", "args": ["for Clara"], "kwargs": {"n": [4711]}})
        assert hide.text("acme: for Clara, 4711") == "acme: [redacted], [redacted]"

    def test_a_payload_that_does_not_fit_its_event_any_more_is_hidden_too(self):
        hide = Redaction("customer.created", {"email": "ada@example.com", "gone": True})
        assert hide.text("to ada@example.com") == "to [redacted]"


class TestData:
    def test_personal_data_is_hidden_in_results_also_as_a_key(self):
        hide = Redaction("customer.created", CUSTOMER)
        result = {"to": ["ada@example.com", 1], "ada@example.com": None}
        assert hide.data(result) == {"to": ["[redacted]", 1], "[redacted]": None}

    def test_what_stands_under_a_sensitive_fields_name_is_hidden(self, hide):
        result = {"fullName": "C. O.", "full_name": "C. O.", "nickname": None, "rows": [{"fullName": ["C. O."]}]}
        assert hide(booked()).data(result) == {
            "fullName": "[redacted]", "full_name": "[redacted]", "nickname": None, "rows": [{"fullName": "[redacted]"}],
        }  # fmt: skip

    def test_numbers_are_hidden_and_other_values_stay_what_they_are(self, hide):
        event = booked(pin=4711, income=Decimal("19.90"))
        assert hide(event).data([4711, 19.9, 4712, True, None, 1.5]) == [
            "[redacted]",
            "[redacted]",
            4712,
            True,
            None,
            1.5,
        ]

    def test_of_an_error_time_and_kind_stay_whatever_the_payload_holds(self):
        error = {
            "attempt": 1,
            "at": "2026-01-01T00:00:00+00:00",
            "kind": "transient",
            "code": "HTTP_502",
            "type": "OSError",
        }
        hide = Redaction("shop.unknown", {"at": 2026, "kind": "transient", "message": "some text"})
        (shown,) = hide.errors([{**error, "message": "on some text in 2026", "args": ["some text"]}])
        assert shown == {**error, "message": "on [redacted] in [redacted]", "args": ["[redacted]"]}


def test_a_redaction_does_not_show_what_it_hides(hide):
    assert "Clara" not in repr(hide(booked()))


def test_the_payload_is_read_when_it_is_first_needed_and_once():
    read = []

    class Watched(dict):
        def items(self):
            read.append(1)
            return super().items()

    hide = Redaction("shop.unknown", Watched(note="secret"))
    assert read == []
    assert [hide.text("a secret"), hide.data(["secret"])] == ["a [redacted]", ["[redacted]"]]
    assert read == [1]


def test_of_a_payload_that_is_not_there_any_more_everything_may_be_a_quotation():
    hide = redaction_of("customer.created", None)
    assert [hide.text("to Ada"), hide.text("")] == ["[redacted]", ""]
    assert [hide.data(data) for data in ("Ada", 7, None, {"ada": 1}, ["ada"])] == [
        "[redacted]",
        "[redacted]",
        None,
        {},
        [],
    ]
    assert hide.errors([{"attempt": 1, "message": "to Ada"}]) == [{"attempt": 1, "message": "[redacted]"}]
