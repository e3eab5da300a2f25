"""The types of event fields: what a value may be, how it looks as JSON, and whether it is personal data.

Everything is strict: a string is not a number and a number is not a string. Three types need more than that:

* `Money` is a `Decimal` in Python and a JSON number on the wire. A float is read at 15 significant digits, the
  precision a float keeps exactly, so 59.970000000000006 from a JavaScript sum arrives as 59.97. A `Decimal` with
  more than 15 significant digits is refused, because a JSON number could not carry it to the other side unchanged.
* `Timestamp` is a `datetime` with a time zone; ISO 8601 text on the wire. Naive times and Unix numbers are refused.
* `JsonObject` is a dict that holds nothing but JSON.
"""

from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any, Final

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    Strict,
)
from pydantic_core import PydanticCustomError

MONEY_DIGITS: Final = 15


class Sensitive:
    """Marks a field that holds personal data: `email: Annotated[str, Sensitive()]`.

    Logs, dashboards and exports ask `sensitive_fields(model)` and leave the values of these fields out.
    """

    def __repr__(self) -> str:
        return "Sensitive()"


class Searchable:
    """Marks a field that the dashboard searches and shows in lists: `order_id: Annotated[str, Searchable()]`.

    For ids and the like. A field that is `Sensitive()` as well is neither searched nor shown.
    """

    def __repr__(self) -> str:
        return "Searchable()"


def _exact_amount(value: object) -> Decimal:
    # One Python call does all of it: pydantic's own checks of Decimal digits cost four times as much.
    if isinstance(value, float):
        if isfinite(value):
            return _as_sent(value)
        raise PydanticCustomError("money_finite", "Input should be a finite number")
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        amount = Decimal(value)
        if amount.is_finite() and _as_sent(float(amount)) == amount:
            return amount
        raise PydanticCustomError(
            "money_digits", "Input should be a number of at most 15 digits, as JSON can carry no more exactly"
        )
    raise PydanticCustomError("money_type", "Input should be a number")


def _as_sent(number: float) -> Decimal:
    return Decimal(f"{number:.{MONEY_DIGITS}g}")


def _time_not_number(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and not _is_number(value)):
        return value
    raise PydanticCustomError("timestamp_type", "Input should be a datetime or ISO 8601 text")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


Money = Annotated[
    Decimal,
    PlainValidator(_exact_amount, json_schema_input_type=float),
    Field(description="Amount in major units, such as 19.99."),
    # No function of ours: a time limit that passes amid one becomes an error of pydantic's, which names no cause.
    PlainSerializer(float, return_type=float, when_used="json"),
]
Timestamp = Annotated[AwareDatetime, Strict(strict=False), BeforeValidator(_time_not_number)]
JsonObject = Annotated[dict[str, Any], GetPydanticSchema(lambda _source, handler: handler(dict[str, JsonValue]))]
JsonArray = Annotated[list[Any], GetPydanticSchema(lambda _source, handler: handler(list[JsonValue]))]

RecordId = Annotated[str, Searchable()]

Email = Annotated[str, Sensitive(), Field(description="Email address.")]
PhoneNumber = Annotated[str, Sensitive(), Field(description="Phone number.")]
PersonName = Annotated[str, Sensitive(), Field(description="Name of a person.")]
MessageText = Annotated[str, Sensitive(), Field(description="Text written for people to read.")]
PersonalData = Annotated[JsonObject, Sensitive(), Field(description="Free JSON; may hold personal data.")]

Currency = Annotated[str, Field(description="ISO 4217 code, such as USD.")]
ByteCount = Annotated[int, Field(description="Size in bytes.")]
Seconds = Annotated[float, Field(description="Duration in seconds.")]
Days = Annotated[int, Field(description="Number of days.")]
