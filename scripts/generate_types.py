"""Write the files that follow from the event models: typed dictionaries, stubs and the reference page.

python scripts/generate_types.py            write them
python scripts/generate_types.py --check    only say which are out of step; exit 1 if any is
"""

import argparse
import inspect
import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from architecture_page import architecture_page, readme
from catalog_page import catalog_page
from event_fields import CATALOG, NOTE, ROOT, is_model, joined, nested_models, parts_of, wire_name
from events_page import reference_page
from metrics_page import metrics_page
from pydantic import AwareDatetime
from pydantic.fields import FieldInfo
from python_page import python_page
from schedules_page import schedules_page

from cgk_tasks.catalog.jobs import JOBS
from cgk_tasks.events.base import TenantEvent, WireModel
from cgk_tasks.events.naming import task_attribute
from cgk_tasks.events.own_events import ON_DEMAND, OnDemand
from cgk_tasks.events.registry import ALIASES

HEADER = f"# {NOTE}\n# fmt: off"

SIMPLE_TYPES: dict[Any, str] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    Any: "Any",
    type(None): "None",
    Decimal: "Decimal | float",
    datetime: "datetime | str",
    AwareDatetime: "datetime | str",
}


def python_type(annotation: Any) -> str:
    """What a caller may pass, as source text. `Decimal | float` for money, `datetime | str` for times."""
    return " | ".join(dict.fromkeys(_python_type(part) for part in parts_of(annotation)))


def _python_type(annotation: Any) -> str:
    if annotation in SIMPLE_TYPES:
        return SIMPLE_TYPES[annotation]
    if is_model(annotation):
        return f"{annotation.__name__}Payload"
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return f"Literal[{', '.join(json.dumps(value) for value in arguments)}]"
    return f"{get_origin(annotation).__name__}[{', '.join(map(python_type, arguments))}]"


def entry_type(field: FieldInfo) -> str:
    kind = python_type(field.annotation)
    return kind if field.is_required() else f"NotRequired[{kind}]"


def names_module() -> str:
    modules: dict[str, list[str]] = {}
    for event in CATALOG:
        modules.setdefault(event.__module__, []).append(event.__name__)
    lines = [
        '"""Every event of the catalog, for type checkers: by name, and as a union of the models."""',
        "",
        HEADER,
        "# ruff: noqa: I001",
        "",
        "from typing import Literal, TypeAlias",
        "",
        *(f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items())),
        "",
        "JobEvent: TypeAlias = Literal[",
        *(f'    "{event.event_name}",' for event in CATALOG),
        "]",
        '"""The name of an event of the catalog."""',
        "",
        "JobPayload: TypeAlias = (",
        *(f"    {'| ' if number else ''}{event.__name__}" for number, event in enumerate(CATALOG)),
        ")",
        '"""An event of the catalog."""',
    ]
    return joined(lines)


def index_module() -> str:
    lines = [
        '"""Where each event of the catalog is defined, so that its module can be imported when it is first used."""',
        "",
        HEADER,
        "",
        "from typing import Final",
        "",
        "EVENT_MODULES: Final = {",
        *(f'    "{event.event_name}": "{event.__module__}",' for event in CATALOG),
        "}",
        "",
        "TELEMETRY: Final = (",
        *(f'    "{event.event_name}",' for event in CATALOG if not event.durable),
        ")",
        '"""Those that are not durable."""',
    ]
    return joined(lines)


def payloads_module() -> str:
    models: list[type[WireModel]] = [*nested_models(), *CATALOG, OnDemand]
    lines = [
        '"""Payloads in wire form, as typed dictionaries: `OrderCreatedPayload` for `order.created`."""',
        "",
        HEADER,
        "",
        "from datetime import datetime",
        "from decimal import Decimal",
        "from typing import Any, Literal, NotRequired, TypedDict",
    ]
    for model in models:
        lines += [
            "",
            "",
            f"class {model.__name__}Payload(TypedDict):",
            f'    """{inspect.getdoc(model)}"""',
            "",
        ]
        lines += [f"    {wire_name(name, field)}: {entry_type(field)}" for name, field in model.model_fields.items()]
    return joined(lines)


SEND_OPTIONS = """delay: _Duration | None = None, run_at: datetime | None = None,
    idempotency_key: str | None = None, max_attempts: int | None = None, queue: str | None = None,
    priority: int | None = None, expires: _Duration | datetime | None = None, session: {session} | None = None"""
WAIT_OPTIONS = """timeout: float = 30.0, idempotency_key: str | None = None, max_attempts: int | None = None,
    queue: str | None = None, priority: int | None = None"""
ASYNC_SESSION = "AsyncSession | Session"
SENDERS = [
    # definition, options, result
    ("def send_job", SEND_OPTIONS.format(session="Session"), "RunHandle"),
    ("async def asend_job", SEND_OPTIONS.format(session=ASYNC_SESSION), "RunHandle"),
    ("def schedule_job", SEND_OPTIONS.format(session="Session"), "RunHandle"),
    ("async def aschedule_job", SEND_OPTIONS.format(session=ASYNC_SESSION), "RunHandle"),
    ("def trigger_and_wait", WAIT_OPTIONS, "WaitResult"),
    ("async def atrigger_and_wait", WAIT_OPTIONS, "WaitResult"),
]
UNTYPED_API = f"""
def send_jobs(items: Iterable[SendItem | TenantEvent], *, session: Session | None = None) -> list[RunHandle]: ...
async def asend_jobs(
    items: Iterable[SendItem | TenantEvent], *, session: {ASYNC_SESSION} | None = None
) -> list[RunHandle]: ...
def send_jobs_in_chunks(
    items: Iterable[SendItem | TenantEvent], *, chunk_size: int = 1_000
) -> Iterator[SentItem]: ...
def asend_jobs_in_chunks(
    items: Iterable[SendItem | TenantEvent], *, chunk_size: int = 1_000
) -> AsyncIterator[SentItem]: ...
def get_run(run_id: str) -> RunStatus: ...
async def aget_run(run_id: str) -> RunStatus: ...
def cancel_run(run_id: str) -> RunStatus: ...
async def acancel_run(run_id: str) -> RunStatus: ...
def signal_run(
    run_id: str, name: str, payload: object = None, *, key: str | None = None, session: Session | None = None
) -> bool: ...
async def asignal_run(
    run_id: str,
    name: str,
    payload: object = None,
    *,
    key: str | None = None,
    session: AsyncSession | Session | None = None,
) -> bool: ...
def replay_run(run_id: str, *, from_step: str | None = None) -> RunHandle: ...
async def areplay_run(run_id: str, *, from_step: str | None = None) -> RunHandle: ...
def get_job_status(run_id: str) -> RunStatus: ...
async def aget_job_status(run_id: str) -> RunStatus: ...
def cancel_job(run_id: str) -> RunStatus: ...
async def acancel_job(run_id: str) -> RunStatus: ...
def retry_job(run_id: str) -> RunHandle: ...
async def aretry_job(run_id: str) -> RunHandle: ...
"""


MISFITS = """
# For a call that fits no overload, mypy lists them all, unless one comes near when the arguments of generic types are
# left out of the comparison. Then it says what is wrong with that one. This is the one: no dictionary fits it, and
# every one comes near.
_Got_co = TypeVar("_Got_co", covariant=True)
_Put_contra = TypeVar("_Put_contra", contravariant=True)
class PayloadThatFits(Protocol[_Got_co, _Put_contra]):
    def __getitem__(self, key: str, /) -> _Got_co: ...
    def __setitem__(self, key: str, value: _Put_contra, /) -> None: ...
class TheEvent: ...
class OrItsModel: ...
"""


def spellings(event: type[TenantEvent]) -> str:
    names = [event.event_name, *(alias for alias, name in ALIASES.items() if name == event.event_name)]
    return ", ".join(f'"{name}"' for name in names)


def api_stub() -> str:
    lines = [
        HEADER,
        "# ruff: noqa: ASYNC109, I001",
        "",
        "from collections.abc import AsyncIterator, Iterable, Iterator",
        "from datetime import datetime, timedelta",
        "from typing import Literal, Protocol, TypeAlias, TypeVar, overload",
        "",
        "from sqlalchemy.ext.asyncio import AsyncSession",
        "from sqlalchemy.orm import Session",
        "",
        "from cgk_tasks.client.provider import SendItem, SentItem, WaitResult",
        "from cgk_tasks.events import (",
        *(f"    {name}," for name in sorted([*(event.__name__ for event in CATALOG), "OnDemand", "TenantEvent"])),
        ")",
        "from cgk_tasks.catalog.payloads import (",
        *(f"    {name}Payload," for name in sorted([*(event.__name__ for event in CATALOG), "OnDemand"])),
        ")",
        "from cgk_tasks.runs.models import RunHandle, RunStatus",
        "",
        "_Duration: TypeAlias = float | timedelta",
        MISFITS,
    ]
    for definition, options, result in SENDERS:
        lines.append(overload(definition, "event: TenantEvent", options, result))
        lines.append(
            overload(definition, "event: str, payload: PayloadThatFits[TheEvent, OrItsModel]", options, result)
        )
        lines += [
            overload(
                definition,
                f"event: Literal[{spellings(event)}], payload: {name}Payload | {name}",
                options,
                result,
            )
            for event in CATALOG
            for name in [event.__name__]
        ]
        on_demand = ", ".join(f'"{job.event}"' for job in JOBS if job.event.startswith(ON_DEMAND))
        lines.append(
            overload(definition, f"event: Literal[{on_demand}], payload: OnDemandPayload | OnDemand", options, result)
        )
    return joined([*lines, UNTYPED_API.strip()])


def overload(definition: str, subject: str, options: str, result: str) -> str:
    return f"@overload\n{definition}(\n    {subject}, *,\n    {options},\n) -> {result}: ..."


CATALOG_PREAMBLE = '''
class EventTask(Task[_P, Any], Generic[_P, _Fields]):
    """The Celery task of one event. Calls are checked against the event's fields, by their Python names."""

    def delay(self, *args: _P.args, **kwargs: _P.kwargs) -> AsyncResult[Any]: ...
    def apply_async(  # type: ignore[override]
        self,
        args: None = None,
        kwargs: _Fields | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult[Any]: ...

def _task(fields: type[_Fields]) -> Callable[[Callable[_P, Any]], EventTask[_P, _Fields]]: ...
'''


def catalog_stub() -> str:
    lines = [
        HEADER,
        "# ruff: noqa: A002",
        "",
        "from collections.abc import Callable",
        "from datetime import datetime",
        "from decimal import Decimal",
        "from typing import Any, Generic, Literal, NotRequired, ParamSpec, TypedDict, TypeVar",
        "",
        "from celery.app.task import Task",
        "from celery.result import AsyncResult",
        "",
        f"from cgk_tasks.catalog.payloads import {', '.join(f'{model.__name__}Payload' for model in nested_models())}",
        "",
        '_P = ParamSpec("_P")',
        '_Fields = TypeVar("_Fields")',
        CATALOG_PREAMBLE,
    ]
    for event in CATALOG:
        fields = event.model_fields.items()
        arguments = [
            f"{name}: {python_type(field.annotation)}{'' if field.is_required() else ' = None'}"
            for name, field in fields
        ]
        lines += [
            f"class _{event.__name__}(TypedDict):",
            *(f"    {name}: {entry_type(field)}" for name, field in fields),
            "",
            f"@_task(_{event.__name__})",
            f"def {task_attribute(event.event_name)}(*, {', '.join(arguments)}) -> Any: ...",
            "",
        ]
    return joined(lines)


def generated_files() -> dict[Path, str]:
    """Every generated file, by its path in the repository, as it should be."""
    return {
        Path("cgk_tasks/catalog/index.py"): index_module(),
        Path("cgk_tasks/catalog/names.py"): names_module(),
        Path("cgk_tasks/catalog/payloads.py"): payloads_module(),
        Path("cgk_tasks/client/api.pyi"): api_stub(),
        Path("cgk_tasks/tasks.pyi"): catalog_stub(),
        Path("README.md"): readme(),
        Path("docs/explanation/architecture.md"): architecture_page(),
        Path("docs/reference/catalog.md"): catalog_page(),
        Path("docs/reference/events.md"): reference_page(),
        Path("docs/reference/metrics.md"): metrics_page(),
        Path("docs/reference/python.md"): python_page(),
        Path("docs/reference/schedules.md"): schedules_page(),
    }


def out_of_step(root: Path = ROOT) -> list[Path]:
    return [
        path
        for path, text in generated_files().items()
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a file is out of step")
    check = parser.parse_args().check
    stale = out_of_step()
    for path in stale:
        print(f"out of step: {path}" if check else f"written: {path}")
        if not check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(generated_files()[path], encoding="utf-8")
    if check and stale:
        print("run: python scripts/generate_types.py", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
