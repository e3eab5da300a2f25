"""What tests write of a run's content by SQL of their own: from texts to the columns in which it is stored."""

import json
from datetime import datetime

from cgk_tasks.runs.plain_columns import error_fingerprint, search_fields, with_trace
from cgk_tasks.runs.sealing import seal

KINDS = {"payload": "payload", "result": "result", "cursor": "cursor", "canvas": "canvas", "deferral": "deferral"}


def stored(values, *, is_open):
    """The columns of a row of `cgk.runs`, or of `cgk.run_history`, whose content is given as JSON text by its name."""
    tenant = values.get("tenant_id", "acme")
    found = {name: value for name, value in values.items() if name not in {*KINDS, "errors"}}
    for name, kind in KINDS.items():
        if name in values:
            found[f"sealed_{name}"] = seal(tenant, kind, values[name])
    if "payload" in values and "event" in values:
        fields = search_fields(values["event"], values["payload"])
        trace = values.get("trace")
        found["search_fields"] = fields if trace is None else with_trace(fields, trace)
    if "errors" in values:
        errors = json.loads(values["errors"])
        found["sealed_errors"] = [seal(tenant, "error", json.dumps(error)) for error in errors]
        if not is_open:
            last = errors[-1] if errors else None
            found["error_fingerprint"] = error_fingerprint(values.get("error_code"), last)
        elif errors:
            at = errors[0].get("at")
            found |= {"last_error_code": errors[-1].get("code"), "first_failed_at": at and datetime.fromisoformat(at)}
    return found


def insert(connection, table, values):
    """Insert a row of `runs` or `run_history` whose content is given as JSON text."""
    columns = stored(values, is_open=table == "runs")
    if table == "run_history":
        columns.pop("trace", None)
    names = ", ".join(columns)
    places = ", ".join(f"%({name})s" for name in columns)
    connection.execute(f"INSERT INTO cgk.{table} ({names}) VALUES ({places})", columns)


def change(connection, run_id, **values):
    """Change an open run; its content is given as JSON text."""
    for name, value in stored(values, is_open=True).items():
        connection.execute(f"UPDATE cgk.runs SET {name} = %s WHERE id = %s", [value, run_id])
