"""The parts of the OpenAPI document that are the same whatever events there are."""

from __future__ import annotations

from typing import Any, Final, get_args

from cgk_tasks.errors import LONGEST_WAIT_SECONDS as FARTHEST
from cgk_tasks.gateway.bodies import JSON, NDJSON
from cgk_tasks.gateway.browser_tokens import LONGEST_SECONDS
from cgk_tasks.gateway.idempotency import HEADER, LONGEST
from cgk_tasks.gateway.problems import MEDIA_TYPE
from cgk_tasks.gateway.runs import LONGEST_WAIT_SECONDS, MOST_LISTED
from cgk_tasks.gateway.sending import MOST_ITEMS
from cgk_tasks.gateway.streams import EVENT_STREAM, RESUME
from cgk_tasks.gateway.streams import LONGEST_WAIT_SECONDS as LONGEST_STREAM_SECONDS
from cgk_tasks.gateway.tenant import BY
from cgk_tasks.runs.models import Outcome, State

Part = dict[str, Any]

_TEXT: Final[Part] = {"type": "string"}
_WHOLE: Final[Part] = {"type": "integer"}
_NUMBER: Final[Part] = {"type": "number"}
_TIME: Final[Part] = {"type": "string", "format": "date-time"}
_ID: Final[Part] = {"type": "string", "format": "uuid"}
_OBJECT: Final[Part] = {"type": "object"}
_SECONDS: Final[Part] = _NUMBER | {"minimum": 0, "maximum": int(FARTHEST)}
_ATTEMPTS: Final[Part] = _WHOLE | {"minimum": 1, "maximum": 10_000}
_PRIORITY: Final[Part] = _WHOLE | {"minimum": 0, "maximum": 9}


def _or_null(schema: Part) -> Part:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: dict[str, Part], **optional: Part) -> Part:
    """What an answer has. Clients take further names, which may be added."""
    return {"type": "object", "properties": required | optional, "required": list(required)}


def _asked(required: dict[str, Part], **optional: Part) -> Part:
    """What a request may have, and nothing else."""
    return _object(required, **optional) | {"additionalProperties": False}


def _array(items: Part) -> Part:
    return {"type": "array", "items": items}


def _ref(name: str) -> Part:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Part, media_type: str = JSON) -> Part:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _query(name: str, schema: Part, description: str) -> Part:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_IN_PATH: Final[Part] = {"name": "id", "in": "path", "required": True, "schema": _ID}
_PROBLEM: Final[Part] = {"$ref": "#/components/responses/Problem"}
_KEY: Final[Part] = {"$ref": "#/components/parameters/IdempotencyKey"}
_WAIT: Final[Part] = _query(
    "wait", _NUMBER | {"minimum": 0, "maximum": LONGEST_WAIT_SECONDS}, "Seconds to wait for the run's end."
)
_STREAM: Final[Part] = {"security": [{"key": []}, {"browserToken": []}]}
_OF_STREAMS: Final[list[Part]] = [
    _query("wait", _NUMBER | {"minimum": 0, "maximum": LONGEST_STREAM_SECONDS}, "End after so many seconds."),
    {
        "name": RESUME, "in": "header", "schema": _TEXT,
        "description": "The id of the last message: what has changed since then is told.",
    },
]  # fmt: skip
_MESSAGES: Final = (
    "Messages, each of which is the run as it is now. Comments between them keep the connection open. It "
    "ends after some minutes: connect again with Last-Event-ID, as browsers do by themselves."
)


def _message(data: Part) -> Part:
    """Of a stream, as a client reads it. The schema is each message's: OpenAPI 3.1 has no other place for it."""
    kinds = {"enum": ["message", "reset"]}
    return _object({}, id=_TEXT, event=kinds, data=_TEXT | {"contentMediaType": JSON, "contentSchema": data})


def _operation(
    name: str, summary: str, answers: dict[str, Part], parameters: list[Part] | None = None, body: Part | None = None
) -> Part:
    found: Part = {"operationId": name, "summary": summary, "responses": answers | {"default": _PROBLEM}}
    if parameters:
        found["parameters"] = parameters
    return found | ({"requestBody": body} if body else {})


_SOURCE: Final[Part] = {"name": "source", "in": "path", "required": True, "schema": _TEXT}
_TENANT: Final[Part] = {"name": "tenant", "in": "path", "required": True, "schema": _TEXT}
_ANY_BODY: Final[Part] = {"content": {JSON: {"schema": {}}, "*/*": {"schema": {}}}}


def _webhook(name: str, parameters: list[Part], *, takes_body: bool = False) -> Part:
    """Other systems call it, so it takes no key but their signature."""
    answers = {
        "202": _answer("It was sent.", _ref("Delivery")),
        "200": _answer("Nothing new was sent: it is a duplicate, or ignored.", _ref("Delivery")),
    }
    summary = "Receive a webhook: the sender's signature stands in place of a key."
    return _operation(f"{name}Webhook", summary, answers, parameters, _ANY_BODY if takes_body else None) | {
        "security": []
    }


def _tick(name: str) -> Part:
    answers = {"200": _answer("They are made.", _object({"ticks": _array(_ref("Tick"))}))}
    summary = "Make the ticks of schedules that are due: for a clock outside, with CRON_SECRET or QStash's signature."
    return _operation(name, summary, answers) | {"security": []}


_MANY: Final[Part] = {
    "required": True,
    "content": {
        JSON: {"schema": _array(_ref("Item")) | {"minItems": 1, "maxItems": MOST_ITEMS}},
        NDJSON: {"schema": _TEXT},
    },
}
_REPLAYED: Final[Part] = {"content": {JSON: {"schema": _asked({}, fromStep=_TEXT)}}}

PATHS: Final[dict[str, Part]] = {
    "/v1/events": {
        "post": _operation(
            "sendMany", "Send many events: an array, all or nothing; or lines of NDJSON, chunk by chunk.",
            {
                "202": _answer("All were sent.", _object({"runs": _array(_ref("Sent"))})),
                "200": _answer("A line for each chunk of lines.", _TEXT, NDJSON),
            },
            [_KEY], _MANY,
        )
    },
    "/v1/runs": {
        "get": _operation(
            "listRuns", "The runs of the tenant, the last sent first.",
            {"200": _answer("A page.", _object({"runs": _array(_ref("ListedRun")), "next": _or_null(_TEXT)}))},
            [
                _query("state", {"enum": list(get_args(State))}, "In this state."),
                _query("event", _TEXT, "Of this event."),
                _query("job", _TEXT, "Of this job."),
                _query("errorCode", _TEXT, "Whose last error has this code."),
                _query("text", _TEXT, "With this text in a field of the payload that can be searched."),
                _query("since", _TIME, "Sent at this time or later."),
                _query("until", _TIME, "Sent before this time."),
                _query("limit", _WHOLE | {"minimum": 1, "maximum": MOST_LISTED}, "So many on a page."),
                _query("after", _TEXT, "What the page before has as `next`."),
            ],
        )
    },
    "/v1/runs/{id}": {
        "get": _operation(
            "showRun", "A run, with payload, result and errors.", {"200": _answer("The run.", _ref("Run"))},
            [_IN_PATH, _WAIT],
        )
    },
    "/v1/runs/{id}/result": {
        "get": _operation(
            "showResult", "How a run has ended.",
            {"200": _answer("It has ended.", _ref("End")), "202": _answer("It is open.", _ref("End"))},
            [_IN_PATH, _WAIT],
        )
    },
    "/v1/runs/{id}/logs": {
        "get": _operation(
            "showLogs", "What the run has logged.",
            {"200": _answer("The lines.", _object({"lines": _array(_ref("LogLine"))}))}, [_IN_PATH],
        )
    },
    "/v1/runs/{id}/cancel": {
        "post": _operation(
            "cancelRun", "Cancel an open run.",
            {"200": _answer("It is cancelled.", _ref("Run")), "202": _answer("Its worker is told.", _ref("Run"))},
            [_IN_PATH],
        )
    },
    "/v1/runs/{id}/replay": {
        "post": _operation(
            "replayRun", "Send a closed run again, as a new one.", {"202": _answer("The new run.", _ref("Sent"))},
            [_IN_PATH, _KEY], _REPLAYED,
        )
    },
    "/v1/runs/{id}/signals/{name}": {
        "post": _operation(
            "signalRun", "Send a workflow a signal. The body is its payload.",
            {"202": _answer("It is kept for the run.", _object({"delivered": {"type": "boolean"}}))},
            [_IN_PATH, {"name": "name", "in": "path", "required": True, "schema": _TEXT}, _KEY],
            {"content": {JSON: {"schema": {}}}},
        )
    },
    "/v1/runs/{id}/stream": {
        "get": _operation(
            "watchRun", "What becomes of a run, as Server-Sent Events, until it has ended.",
            {"200": _answer(_MESSAGES, _message(_ref("WatchedRun")), EVENT_STREAM),
             "204": {"description": "Its end was told. Do not connect again."}},
            [_IN_PATH, *_OF_STREAMS],
        ) | _STREAM
    },
    "/v1/stream": {
        "get": _operation(
            "watchRuns", "What becomes of the tenant's runs, as Server-Sent Events.",
            {"200": _answer(
                f"{_MESSAGES} A message of the type reset says that more has changed: list the runs anew.",
                _message({"anyOf": [_ref("WatchedRun"), _OBJECT | {"maxProperties": 0}]}), EVENT_STREAM,
            )},
            [
                _query("queue", _TEXT, "Of this queue."), _query("event", _TEXT, "Of this event."), *_OF_STREAMS,
            ],
        ) | _STREAM
    },
    "/v1/tokens": {
        "post": _operation(
            "makeToken", "Make a token with which a browser may watch one run, or all of the tenant, for some time.",
            {"201": _answer("The token.", _ref("Token"))}, None,
            {"required": True, "content": {JSON: {"schema": _ref("NewToken")}}},
        )
    },
    "/v1/schedules": {
        "get": _operation(
            "showSchedules", "The tenant's own schedules.",
            {"200": _answer("All of them.", _object({"schedules": _array(_ref("Schedule"))}))},
        )
    },
    "/v1/limits": {
        "get": _operation(
            "showLimits", "What the tenant may.", {"200": _answer("As it counts now.", _ref("Limits"))}
        )
    },
    "/v1/usage": {
        "get": _operation(
            "showUsage", "What the tenant has used.",
            {"200": _answer("By time.", _object({"usage": _array(_ref("Usage"))}))},
            [
                _query("since", _TIME, "From the hour of this time on; else from the beginning of the month."),
                _query("until", _TIME, "Until the hour of this time; else until now."),
                _query("by", {"enum": list(BY)}, "The length of time of each entry."),
            ],
        )
    },
    "/v1/webhooks/{source}": {
        "post": _webhook("receive", [_SOURCE], takes_body=True), "get": _webhook("call", [_SOURCE]),
    },
    "/v1/webhooks/{source}/{tenant}": {
        "post": _webhook("receiveOfTenant", [_SOURCE, _TENANT], takes_body=True),
        "get": _webhook("callOfTenant", [_SOURCE, _TENANT]),
    },
    "/v1/tick": {"post": _tick("tick"), "get": _tick("tickByGet")},
}  # fmt: skip

SCHEMAS: Final[dict[str, Part]] = {
    "Problem": _object(
        {"type": _TEXT, "title": _TEXT, "status": _WHOLE, "detail": _TEXT, "code": _TEXT},
        hint=_TEXT, retryAfter=_WHOLE, item=_WHOLE, problems=_array(_TEXT), nearest=_TEXT, option=_TEXT, runId=_TEXT,
        state=_TEXT, limit=_WHOLE, limitBytes=_WHOLE, sizeBytes=_WHOLE,
    ),
    "Sent": _object({"id": _ID, "outcome": {"enum": list(get_args(Outcome))}}),
    "Item": _asked(
        {"event": _TEXT, "payload": _OBJECT},
        options=_asked(
            {}, delay=_SECONDS, runAt=_TIME, expires={"anyOf": [_TIME, _SECONDS]}, maxAttempts=_ATTEMPTS,
            priority=_PRIORITY, idempotencyKey=_TEXT | {"minLength": 1, "maxLength": 500},
        ),
    ),
    "ListedRun": _object(
        {"id": _ID, "tenantId": _TEXT, "event": _TEXT, "state": {"enum": list(get_args(State))}, "attempt": _WHOLE},
        job=_or_null(_TEXT), errorCode=_or_null(_TEXT), summary=_OBJECT, sentAt=_TIME, runAt=_or_null(_TIME),
        startedAt=_or_null(_TIME), closedAt=_or_null(_TIME), parentId=_or_null(_ID), replayOf=_or_null(_ID),
    ),
    "Run": _object(
        {"id": _ID, "tenantId": _TEXT, "event": _TEXT, "state": {"enum": list(get_args(State))}, "attempt": _WHOLE},
        job=_or_null(_TEXT), maxAttempts=_or_null(_WHOLE), queue=_TEXT, priority=_WHOLE, payload={}, result={},
        errorCode=_or_null(_TEXT), errors=_array(_ref("RunError")), errorsLeftOut=_WHOLE, runAt=_or_null(_TIME),
        expiresAt=_or_null(_TIME), createdAt=_or_null(_TIME), startedAt=_or_null(_TIME), closedAt=_or_null(_TIME),
        cancelRequestedAt=_or_null(_TIME), parentId=_or_null(_ID), replayOf=_or_null(_ID),
        idempotencyKey=_or_null(_TEXT), schedule=_or_null(_TEXT), scheduledFor=_or_null(_TIME),
        progress=_or_null(_ref("Progress")), metadata=_OBJECT,
    ),
    "Progress": _object({"done": _NUMBER, "message": _TEXT, "at": _TIME}, total=_or_null(_NUMBER)),
    "WatchedRun": _object(
        {"id": _ID, "event": _TEXT, "queue": _TEXT, "state": {"enum": list(get_args(State))},
         "isClosed": {"type": "boolean"}, "attempt": _WHOLE, "progress": _or_null(_ref("Progress")),
         "metadata": _OBJECT},
    ),
    "NewToken": _asked(
        {}, runId=_ID, allRuns={"const": True}, expires=_NUMBER | {"minimum": 1, "maximum": LONGEST_SECONDS}
    ) | {"oneOf": [{"required": ["runId"]}, {"required": ["allRuns"]}]},
    "Token": _object({"token": _TEXT, "runId": _or_null(_ID), "expiresAt": _TIME}),
    "RunError": _object(
        {}, attempt=_WHOLE, at=_TIME, kind=_TEXT, code=_or_null(_TEXT), type=_or_null(_TEXT), message=_or_null(_TEXT)
    ),
    "End": _object(
        {"id": _ID, "state": {"enum": list(get_args(State))}}, result={}, errorCode=_or_null(_TEXT),
        errors=_array(_ref("RunError")),
    ),
    "LogLine": _object(
        {"at": _TIME, "attempt": _WHOLE, "level": _TEXT, "logger": _TEXT, "message": _TEXT, "fields": _OBJECT}
    ),
    "Schedule": _object(
        {"id": _ID, "tenantId": _TEXT, "event": _TEXT, "payload": _OBJECT, "cron": _TEXT, "timezone": _TEXT,
         "misfire": _TEXT, "overlap": _TEXT, "maxAge": _NUMBER, "isPaused": {"type": "boolean"}, "nextAt": _TIME,
         "createdAt": _TIME},
        dedupKey=_or_null(_TEXT),
    ),
    "Limits": _object(
        {"tenantId": _TEXT, "weight": _NUMBER, "sources": _OBJECT},
        plan=_or_null(_TEXT), atOnce=_or_null(_WHOLE), dailyRuns=_or_null(_WHOLE), maxWaiting=_or_null(_WHOLE),
        starts=_or_null(_object({"runs": _WHOLE, "seconds": _NUMBER})),
    ),
    "Delivery": _object({
        "outcome": {"enum": ["accepted", "duplicate", "ignored"]}, "runs": _array(_ref("Sent")),
    }),
    "Tick": _object({"schedule": _TEXT, "scheduledFor": _TIME, "runs": _WHOLE}),
    "Usage": _object(
        {"runs": _WHOLE, "failed": _WHOLE, "runSeconds": _NUMBER, "queueSeconds": _NUMBER, "rejected": _WHOLE},
        begin=_or_null(_TIME),
    ),
}  # fmt: skip

ANSWERS: Final[dict[str, Part]] = {
    "Sent": _answer("The run that was made; with 200, the one that was made before.", _ref("Sent")),
    "Problem": _answer("What was wrong, and what to do (RFC 9457).", _ref("Problem"), MEDIA_TYPE),
}

PARAMETERS: Final[dict[str, Part]] = {
    "Delay": _query("delay", _SECONDS, "Run it after so many seconds."),
    "RunAt": _query("runAt", _TIME, "Run it at this time."),
    "Expires": _query(
        "expires", {"anyOf": [_TIME, _SECONDS]}, "Do not run it later than this: a time, or seconds from now."
    ),
    "MaxAttempts": _query("maxAttempts", _ATTEMPTS, "Attempts in place of the job's."),
    "Priority": _query("priority", _PRIORITY, "9 is urgent."),
    "IdempotencyKey": {
        "name": HEADER,
        "in": "header",
        "schema": _TEXT | {"minLength": 1, "maxLength": LONGEST},
        "description": "The same request with the same key is made once.",
    },
}
