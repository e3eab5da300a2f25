"""The OpenAPI document: it is one, it has every event, and the gateway does what it says."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cgk_tasks import cancel_run, send_job
from cgk_tasks.events import OrderCreated
from cgk_tasks.events.base import INTERNAL
from cgk_tasks.events.registry import all_events, find_event
from cgk_tasks.gateway.asgi import ENDPOINTS, SIGNED, STREAMS
from cgk_tasks.gateway.description import openapi
from tests.support import jobs
from tests.support.waiting import busyness

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def document(api):
    return api.get("/v1/openapi.json").json()


def test_the_document_is_one_of_openapi_3_1(document):
    from jsonschema_rs import validator_for  # which schemathesis brings

    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        validator_for(schema | {"components": document["components"]})


def test_every_event_has_a_path(document):
    known = (event for event in all_events() if event.category != INTERNAL)
    assert {f"/v1/events/{event.event_name}" for event in known} <= set(document["paths"])


def test_what_cgk_tasks_alone_sends_has_none(document):
    assert find_event("django.task").category == INTERNAL
    assert [path for path in document["paths"] if "django" in path] == []


def test_every_other_endpoint_has_a_path(document):
    for method, path, _handler, _scope in ENDPOINTS:
        if path not in {"/v1/events/{event}", "/v1/openapi.json"}:
            assert method.lower() in document["paths"][path]
    for method, path, _handler in SIGNED:
        assert document["paths"][path][method.lower()]["security"] == []


def test_the_schema_of_a_payload_is_that_of_its_model(document):
    operation = document["paths"]["/v1/events/order.created"]["post"]
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    assert set(schema["properties"]) == {field.alias for field in OrderCreated.model_fields.values()}
    assert {"tenantId", "orderId"} <= set(schema["required"])
    assert schema["additionalProperties"] is False


def test_every_reference_leads_somewhere(document):
    def refs(part):
        if isinstance(part, dict):
            yield from [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            part = list(part.values())
        if isinstance(part, list):
            for one in part:
                yield from refs(one)

    for ref in set(refs(document)):
        place = document
        for name in ref.removeprefix("#/").split("/"):
            place = place[name]


def test_operations_have_names_of_their_own(document):
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_an_events_first_sentence_is_its_summary(document):
    assert document["paths"]["/v1/events/test.nobody"]["post"]["summary"] == jobs.Nobody.__doc__


@pytest.fixture
def aimed():
    """The document, of two events, so that most requests made of it get past the first checks: of this tenant, and
    about runs that there are.
    """
    made = json.loads(json.dumps(openapi([jobs.Behave, OrderCreated])))
    schemas = made["components"]["schemas"]
    for name in ("Behave", "OrderCreated"):
        schemas[name]["properties"]["tenantId"] = {"const": "acme"}
    schemas["Item"]["properties"] |= {
        "event": {"const": "test.behave"},
        "payload": {"$ref": "#/components/schemas/Behave"},
    }
    ids = [send_job("test.behave", {"tenantId": "acme", "action": "echo"}, queue="nobody").id for _ in range(20)]
    for run_id in ids[::2]:
        cancel_run(run_id)
    for operations in made["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter.get("name") == "id":
                    parameter["schema"] = {"enum": ids}
                if parameter.get("name") == "wait":  # a stream of an open run goes on for that long
                    parameter |= {"schema": {"enum": [0, 0.01, -1, 4_000]}, "required": True}
    for path in STREAMS:
        del made["paths"][path]["get"]["security"]  # or most requests would have a key and a token
    return made


@pytest.mark.slow
def test_requests_made_of_the_document_are_answered_as_it_says_and_find_no_failure_of_the_server(gateway, api, aimed):
    """Hundreds of requests, right and wrong ones, to every path that is not an event's, and to two events."""
    schema, asked, statuses = schemathesis.openapi.from_dict(aimed), [], set()
    for found in schema.get_all_operations():
        operation = found.ok()
        asked.append(operation.label)

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case):
            answer = case.call(
                base_url=gateway, headers={"Authorization": api.headers["Authorization"]}, timeout=30 * busyness()
            )
            statuses.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        check()
    assert len(asked) == len(ENDPOINTS) + len(SIGNED)
    assert {200, 202, 400, 409, 422} <= statuses
