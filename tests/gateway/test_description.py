"""The OpenAPI document: it is one, it has every event, and the gateway does what it says."""

import json

import pytest
from hypothesis import HealthCheck, given, settings

from cgk_tasks.events import OrderCreated
from cgk_tasks.events.registry import all_events
from cgk_tasks.gateway.asgi import ENDPOINTS
from cgk_tasks.gateway.description import openapi
from tests.support import jobs
from tests.support.waiting import busyness


@pytest.fixture(scope="module")
def document(api):
    return api.get("/v1/openapi.json").json()


def test_the_document_is_one_of_openapi_3_1(document):
    from jsonschema_rs import validator_for  # which schemathesis brings

    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        validator_for(schema | {"components": document["components"]})


def test_every_event_has_a_path(document):
    assert {f"/v1/events/{event.event_name}" for event in all_events()} <= set(document["paths"])


def test_every_other_endpoint_has_a_path(document):
    for method, path, _handler, _scope in ENDPOINTS:
        if path not in {"/v1/events/{event}", "/v1/openapi.json"}:
            assert method.lower() in document["paths"][path]


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


@pytest.mark.slow
def test_requests_made_of_the_document_find_no_failure_of_the_server(gateway, api):
    """Hundreds of requests, right and wrong ones, to every path that is not an event's, and to one event."""
    import schemathesis
    from schemathesis.checks import not_a_server_error

    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(openapi([jobs.Behave, OrderCreated]))))
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()
        asked.append(operation.label)

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case):
            case.call_and_validate(
                base_url=gateway, headers={"Authorization": api.headers["Authorization"]},
                checks=[not_a_server_error], timeout=30 * busyness(),
            )  # fmt: skip

        check()
    assert len(asked) == len(ENDPOINTS)
