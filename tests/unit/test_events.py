"""Events: what they accept, what they refuse and in which words, and how they look on the wire."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import Field, ValidationError

from cgk_tasks.errors import (
    InvalidTenantError,
    PayloadInvalidError,
    TenantMissingError,
    UnknownEventError,
)
from cgk_tasks.events import (
    AnalyticsPageView,
    AnalyticsTrack,
    EmailSend,
    OrderCreated,
    OrderDelivered,
    ReviewModerated,
    TenantEvent,
    VideoUploadCompleted,
    parse_event,
    parse_event_json,
    sensitive_fields,
    validate_tenant_id,
)

ORDER: dict[str, Any] = {"tenantId": "acme", "orderId": "1", "totalAmount": 19.99}


def order(**changes: Any) -> dict[str, Any]:
    return ORDER | changes


def problems_of(event: str, payload: Any) -> list[str]:
    with pytest.raises(PayloadInvalidError) as caught:
        parse_event(event, payload)
    return caught.value.problems


# What is accepted


def test_a_payload_in_wire_form_becomes_the_events_model() -> None:
    assert parse_event("order.created", ORDER) == OrderCreated(
        tenant_id="acme", order_id="1", total_amount=Decimal("19.99")
    )


def test_a_payload_in_python_names_means_the_same() -> None:
    python_names = {"tenant_id": "acme", "order_id": "1", "total_amount": 19.99}
    assert parse_event("order.created", python_names) == parse_event("order.created", ORDER)


def test_any_mapping_is_a_payload() -> None:
    assert parse_event("order.created", MappingProxyType(ORDER)) == parse_event("order.created", ORDER)


def test_json_text_and_bytes_mean_the_same() -> None:
    text = json.dumps(ORDER)
    assert parse_event_json("order.created", text) == parse_event_json("order.created", text.encode())


def test_a_model_is_taken_as_it_is() -> None:
    model = parse_event("order.created", ORDER)
    assert parse_event("order.created", model) is model


def test_a_second_spelling_means_the_events_own_name() -> None:
    event = parse_event("review.reminder.scheduled", {"tenantId": "acme", "orderId": "1", "reminderNumber": 1})
    assert event.event_name == "review.reminder"


def test_an_event_cannot_be_changed() -> None:
    event = OrderCreated(tenant_id="acme", order_id="1", total_amount=Decimal(1))
    with pytest.raises(ValidationError, match="frozen"):
        event.order_id = "2"  # type: ignore[misc]


def test_only_analytics_is_not_durable() -> None:
    assert (AnalyticsTrack.durable, AnalyticsPageView.durable, OrderCreated.durable) == (False, False, True)


# What is refused, and in which words


def test_a_model_of_another_event_is_refused() -> None:
    delivered = OrderDelivered(tenant_id="acme", order_id="1")
    assert problems_of("order.created", delivered) == ["it must be OrderCreated, not OrderDelivered (order.delivered)"]


def test_an_unknown_event_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownEventError) as caught:
        parse_event("order.create", ORDER)
    assert caught.value.nearest == "order.created"


@pytest.mark.parametrize("payload", [{"orderId": "1"}, order(tenantId=None)])
def test_a_payload_without_a_tenant_is_refused_whatever_else_is_wrong(payload: dict[str, Any]) -> None:
    with pytest.raises(TenantMissingError, match=r"order\.created"):
        parse_event("order.created", payload)


@pytest.mark.parametrize("tenant_id", ["", "Acme", "-acme", "a b", "acme\n", "a" * 64, 7, ["acme"]])
def test_a_malformed_tenant_is_refused(tenant_id: object) -> None:
    with pytest.raises(InvalidTenantError):
        parse_event("order.created", order(tenantId=tenant_id))
    with pytest.raises(InvalidTenantError):
        validate_tenant_id(tenant_id)


@pytest.mark.parametrize("tenant_id", ["a", "7", "acme-2_b", "a" * 63])
def test_a_well_formed_tenant_is_returned(tenant_id: str) -> None:
    assert validate_tenant_id(tenant_id) == tenant_id
    assert parse_event("order.created", order(tenantId=tenant_id)).tenant_id == tenant_id


@pytest.mark.parametrize(
    ("event", "payload", "problem"),
    [
        ("order.created", {"tenantId": "a", "orderId": "1"}, "field 'totalAmount' is missing"),
        ("order.created", order(orderId=1), "field 'orderId' must be a valid string, not a number"),
        ("order.created", order(orderId=None), "field 'orderId' must be a valid string, not null"),
        ("order.created", order(totalAmount="19.99"), "field 'totalAmount' must be a number, not a string"),
        ("order.created", order(totalAmount=True), "field 'totalAmount' must be a number, not a boolean"),
        ("order.created", order(totalAmount=float("nan")), "field 'totalAmount' must be a finite number"),
        ("order.created", order(orderID="1"), "unknown field 'orderID': did you mean 'orderId'?"),
        ("order.created", order(order_idd="1"), "unknown field 'order_idd': did you mean 'order_id'?"),
        ("order.created", order(order_id="1"), "field 'order_id' is given twice, also as 'orderId'"),
        ("creator.setupComplete", {"tenantId": "a", "creatorId": "c", "xyz": 1},
         "unknown field 'xyz': CreatorSetupComplete has 'tenantId', 'creatorId'"),
        ("survey.digest", {"tenantId": "a", "frequency": "yearly"},
         "field 'frequency' must be 'daily' or 'weekly', not 'yearly'"),
        ("dam.export", {"tenantId": "a", "exportId": "e", "assetIds": ["1", 2]},
         "field 'assetIds.1' must be a valid string, not a number"),
        ("review.submitted", {"tenantId": "a", "reviewId": "r", "rating": "5"},
         "field 'rating' must be a valid integer, not a string"),
        ("email.send", {"tenantId": "a", "to": "t", "templateId": "t", "data": {"at": datetime.now(UTC)}},
         "field 'data.at' is wrong: input was not a valid JSON value"),
        ("googleFeed.imageOptimize",
         {"tenantId": "a", "productId": "p", "imageUrl": "u", "options": {"targetwidth": 1}},
         "unknown field 'options.targetwidth': did you mean 'targetWidth'?"),
        ("order.created", [ORDER], "it must be an object with named fields, not list"),
    ],
)  # fmt: skip
def test_a_faulty_payload_is_refused_in_plain_words(event: str, payload: Any, problem: str) -> None:
    assert problems_of(event, payload) == [problem]


def test_every_problem_of_a_payload_is_named_at_once() -> None:
    assert len(problems_of("order.created", {"tenantId": "acme", "orderId": 1, "sum": 2})) == 3


@pytest.mark.parametrize("data", ["{", b"\xff", "[1]", "null"])
def test_data_that_is_not_a_json_object_is_refused(data: bytes | str) -> None:
    with pytest.raises(PayloadInvalidError):
        parse_event_json("order.created", data)


def test_a_problem_deep_inside_free_json_is_told_in_a_short_line() -> None:
    data: dict[str, Any] = {}
    for _ in range(1000):
        data = {"a": data}
    (problem,) = problems_of("email.send", {"tenantId": "acme", "to": "t", "templateId": "t", "data": data})
    assert problem.startswith("field 'data.a")
    assert len(problem) < 250


def test_an_error_never_quotes_personal_data() -> None:
    payload = {"tenantId": "acme", "to": ["ann@example.org"], "templateId": "t", "data": "born 1990"}
    with pytest.raises(PayloadInvalidError) as caught:
        parse_event("email.send", payload)
    assert "ann@" not in str(caught.value)
    assert "1990" not in str(caught.value)


def test_a_constructors_error_does_not_quote_values_either() -> None:
    with pytest.raises(ValidationError) as caught:
        EmailSend(tenant_id="acme", to="ann@example.org", template_id="t", data="born 1990")  # type: ignore[arg-type]
    assert "1990" not in str(caught.value)


# Times


@pytest.mark.parametrize("value", [datetime(2026, 1, 31, 9), "2026-01-31T09:00:00", "2026-01-31"])  # noqa: DTZ001
def test_a_time_without_a_zone_is_refused(value: object) -> None:
    payload = {"tenantId": "acme", "orderId": "1", "deliveredAt": value}
    assert problems_of("order.delivered", payload) == [
        "field 'deliveredAt' must have a time zone, like 2026-01-31T09:00:00Z"
    ]


@pytest.mark.parametrize("value", [1767225600, 1767225600.5, "1767225600", "noon", True])
def test_a_time_that_is_not_a_datetime_or_iso_8601_is_refused(value: object) -> None:
    payload = {"tenantId": "acme", "orderId": "1", "deliveredAt": value}
    assert problems_of("order.delivered", payload) == [
        "field 'deliveredAt' must be a datetime, or ISO 8601 text like 2026-01-31T09:00:00Z"
    ]


def test_a_time_keeps_its_offset_on_the_wire() -> None:
    nine = datetime(2026, 1, 31, 9, tzinfo=timezone(timedelta(hours=2)))
    wire = OrderDelivered(tenant_id="acme", order_id="1", delivered_at=nine).to_wire()
    assert wire["deliveredAt"] == "2026-01-31T09:00:00+02:00"


# Money


@pytest.mark.parametrize(
    ("sent", "amount"),
    [
        (19.99, "19.99"),
        (20, "20"),
        (Decimal("0.10"), "0.10"),
        (59.970000000000006, "59.97"),
        (-3.5, "-3.5"),
        (9999999999999.99, "9999999999999.99"),
    ],
)
def test_an_amount_is_exact_to_the_cent(sent: float | Decimal, amount: str) -> None:
    event = parse_event("order.created", order(totalAmount=sent))
    assert isinstance(event, OrderCreated)
    assert event.total_amount == Decimal(amount)
    assert json.loads(event.to_json(), parse_float=Decimal)["totalAmount"] == Decimal(amount)


@pytest.mark.parametrize(
    "amount",
    [
        Decimal("1234567890123456.7"),
        10**16 + 1,
        Decimal("1E400"),
        Decimal("1E-400"),
        Decimal("NaN"),
        Decimal("Inf"),
    ],
)
def test_an_amount_that_json_cannot_carry_exactly_is_refused(amount: object) -> None:
    assert problems_of("order.created", order(totalAmount=amount)) == [
        "field 'totalAmount' must be a number of at most 15 digits, as JSON can carry no more exactly"
    ]


# The wire form


def test_optional_fields_without_a_value_are_left_out() -> None:
    event = OrderCreated(tenant_id="acme", order_id="1", total_amount=Decimal(1), currency=None)
    assert event.to_wire() == {"tenantId": "acme", "orderId": "1", "totalAmount": 1}


def test_required_fields_that_are_null_stay() -> None:
    payload = {
        "tenantId": "acme",
        "reviewId": "r",
        "action": "spam",
        "reviewerEmail": "ann@example.org",
        "reviewerName": None,
        "productTitle": None,
    }
    event = parse_event("review.moderated", payload)
    assert event.to_wire() == json.loads(event.to_json()) == payload


def test_a_required_field_that_may_be_null_must_still_be_there() -> None:
    payload = {
        "tenantId": "acme",
        "reviewId": "r",
        "action": "spam",
        "reviewerEmail": "e",
        "productTitle": None,
    }
    assert problems_of("review.moderated", payload) == ["field 'reviewerName' is missing"]


def test_nulls_inside_free_json_stay() -> None:
    data = {"a": None, "b": [None, {"c": None}]}
    event = EmailSend(tenant_id="acme", to="t", template_id="t", data=data)
    assert json.loads(event.to_json())["data"] == data


def test_a_whole_number_of_seconds_is_a_duration() -> None:
    payload = {"tenantId": "a", "videoId": "v", "projectId": "p", "creatorId": "c", "size": 1, "duration": 90}
    event = parse_event("video.uploadCompleted", payload)
    assert isinstance(event, VideoUploadCompleted)
    assert event.duration == 90.0


def test_text_that_cannot_be_json_is_refused_when_it_goes_on_the_wire() -> None:
    event = OrderCreated(tenant_id="acme", order_id="half a smiley: \ud83d", total_amount=Decimal(1))
    with pytest.raises(PayloadInvalidError, match="surrogate"):
        event.to_json()


# Personal data


def test_personal_data_is_marked_under_python_names_and_wire_names() -> None:
    assert sensitive_fields(ReviewModerated) == {"reviewer_email", "reviewer_name"}
    assert sensitive_fields(ReviewModerated, by_alias=True) == {"reviewerEmail", "reviewerName"}
    assert sensitive_fields(OrderCreated) == frozenset()


# An application's own events


def test_an_application_adds_an_event_by_subclassing() -> None:
    class InvoicePaid(TenantEvent, event="test.invoicePaid"):
        invoice_id: str
        days_late: int = 0

    event = parse_event("test.invoicePaid", {"tenantId": "acme", "invoiceId": "7"})
    assert event == InvoicePaid(tenant_id="acme", invoice_id="7")
    assert event.to_wire() == {"tenantId": "acme", "invoiceId": "7", "daysLate": 0}
    assert (InvoicePaid.category, InvoicePaid.durable) == ("application", True)


def test_events_may_share_a_base_without_a_name() -> None:
    class TestShared(TenantEvent):
        actor_id: str

    class TestRenamed(TestShared, event="test.renamed", category="test", durable=False):
        """An event with fields of its base."""

    assert parse_event("test.renamed", {"tenantId": "acme", "actorId": "u"}).category == "test"


def test_two_classes_for_one_event_are_an_error_that_names_both() -> None:
    with pytest.raises(TypeError, match=r"commerce\.OrderCreated and by .*\.MyOrder\b"):

        class MyOrder(TenantEvent, event="order.created"):
            order_id: str

    assert type(parse_event("order.created", ORDER)) is OrderCreated


OWN_REVIEW = """
from cgk_tasks.events import TenantEvent, get_event

{first}
class Review(TenantEvent, event="review.submitted"):
    stars: int

get_event("order.created")
"""


@pytest.mark.parametrize("first", ["", 'get_event("order.created")'], ids=["catalog after it", "catalog before it"])
def test_an_event_may_not_have_the_name_of_one_that_the_catalog_has_not_imported_yet(first: str) -> None:
    program = OWN_REVIEW.format(first=first)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "TypeError: event 'review.submitted' is defined twice" in done.stderr


def test_extending_an_event_needs_a_new_name() -> None:
    with pytest.raises(TypeError, match=r"extends the event 'order\.created'"):

        class BigOrder(OrderCreated):
            size: int


@pytest.mark.parametrize("name", ["", "Order", "order", "order created", "order."])
def test_an_event_name_has_two_words_joined_by_a_dot(name: str) -> None:
    with pytest.raises(TypeError, match="is not an event name"):

        class Misnamed(TenantEvent, event=name):
            """An event with a name that is none."""


@pytest.mark.filterwarnings("ignore:Field name")  # pydantic warns as well
def test_a_field_cannot_hide_what_describes_the_event() -> None:
    with pytest.raises(TypeError, match=r"Field\(alias='category'\)"):

        class ProductSorted(TenantEvent, event="test.productSorted"):
            category: str = Field()  # type: ignore[misc]


# Importing


def test_importing_the_events_imports_no_celery_no_database_no_redis() -> None:
    heavy = ["celery", "kombu", "sqlalchemy", "psycopg", "redis", "django"]
    script = f"import sys, cgk_tasks.events; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
