"""Options that say how much a plan or a tenant may."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer

from cgk_tasks.cli import values
from cgk_tasks.cli.output import say

NONE: Final = "none"

_STARTS = "COUNT/TIME"


def _number(kind: Callable[[str], float]) -> Callable[[str], object]:
    def read(text: str) -> object:
        if text.lower() == NONE:
            return NONE
        try:
            number = kind(text.replace(",", "").replace("_", ""))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise typer.BadParameter(f"{text!r} is no number. Give one, or {NONE} to take the limit away.")
        return number

    return read


def starts(text: str) -> object:
    """`1000/1m`, `5/s`. Raises typer.BadParameter."""
    if text.lower() == NONE:
        return NONE
    count, slash, period = text.partition("/")
    if not slash or not count.strip().isdecimal():
        raise typer.BadParameter(f"{text!r} is no rate. Write it like 1000/60s, 1000/1m or 5/s.")
    return int(count), values.duration(period if period[:1].isdigit() else f"1{period}").total_seconds()


Weight = Annotated[
    Any,
    typer.Option(
        metavar="NUMBER", parser=_number(float), help="How much of a crowded queue, beside 1 for everybody; or none."
    ),
]
AtOnceOption = Annotated[
    Any, typer.Option("--at-once", metavar="NUMBER", parser=_number(int), help="Runs on at once, of all jobs; or none.")
]
Starts = Annotated[
    Any, typer.Option(metavar=_STARTS, parser=starts, help="Starts in a time: 1000/1m, 5/s; the excess waits; or none.")
]
DailyRuns = Annotated[
    Any,
    typer.Option("--daily-runs", metavar="NUMBER", parser=_number(int), help="Runs sent in a day of UTC; or none."),
]
MaxWaiting = Annotated[
    Any,
    typer.Option("--max-waiting", metavar="NUMBER", parser=_number(int), help="Runs that wait; or none."),
]
By = Annotated[str | None, typer.Option(help="Who or what does it; default: CGK_ACTOR, or you.")]
Reason = Annotated[str, typer.Option(help="Why, for those who wonder later.")]


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as the library takes them."""
    return {name: None if value == NONE else value for name, value in options.items() if value is not None}


def shown_starts(value: tuple[int, float] | None) -> str | None:
    """A rate as these options take it."""
    return None if value is None else f"{value[0]}/{value[1]:g}s"


def warn_if_not_kept() -> None:
    """Say so where what was set does not count yet: workers live that do not know of it."""
    from cgk_tasks.admission.switch import SWITCH

    if not SWITCH.current().is_on:
        say(
            "warning: it does not count yet: workers of an earlier release are alive, or a migration is not finished. "
            "See: cgk-tasks doctor"
        )
