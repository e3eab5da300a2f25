"""What of a payload is shown to those who may not see personal data."""

from typing import Annotated

import pytest

from cgk_tasks.events import (
    CustomerCreated,
    OrderCreated,
    Searchable,
    Sensitive,
    TenantEvent,
    searchable_fields,
)
from cgk_tasks.events.redaction import Redaction, redacted, summary

CUSTOMER = {"tenantId": "acme", "customerId": "c-1", "email": "ada@example.com"}


class Marked(TenantEvent, event="test.marked"):
    """A field with both marks."""

    note_id: Annotated[str, Searchable()] | None = None
    secret_id: Annotated[str, Searchable(), Sensitive()] | None = None


def test_ids_of_the_catalog_are_searchable():
    assert searchable_fields(OrderCreated, by_alias=True) == ("orderId", "shopifyOrderId", "customerId")


def test_a_sensitive_field_is_never_searchable():
    assert searchable_fields(Marked) == ("note_id",)


def test_the_mark_in_a_union_counts():
    assert "secretId" not in summary("test.marked", {"noteId": "n", "secretId": "s"})
    assert summary("test.marked", {"noteId": "n", "secretId": "s"}) == {"noteId": "n"}


def test_a_summary_leaves_out_what_has_no_value():
    assert summary(CustomerCreated.event_name, {**CUSTOMER, "shopifyCustomerId": None}) == {"customerId": "c-1"}


def test_of_an_unknown_event_nothing_is_shown():
    assert redacted("shop.unknown", {"tenantId": "acme", "x": 1}) == {"tenantId": "acme", "x": "[redacted]"}
    assert summary("shop.unknown", {"orderId": "o"}) == {}


@pytest.mark.parametrize(
    "text", ["no account for ada@example.com", "KeyError: 'ada@example.com'", "<ada@example.com>\nada@example.com"]
)
def test_personal_data_is_hidden_in_texts_that_quote_it(text):
    hidden = Redaction("customer.created", CUSTOMER).text(text)
    assert "ada@" not in hidden
    assert "[redacted]" in hidden


def test_personal_data_is_hidden_in_results_also_as_a_key():
    hide = Redaction("customer.created", CUSTOMER)
    assert hide.data({"to": ["ada@example.com", 1], "ada@example.com": None}) == {"to": ["[redacted]", 1], "[redacted]": None}


def test_what_is_not_personal_stays():
    assert Redaction("customer.created", CUSTOMER).text("customer c-1 of acme") == "customer c-1 of acme"
