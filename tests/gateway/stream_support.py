"""Reading streams of Server-Sent Events."""

import json
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.support.waiting import busyness

LONG = 30


class Told(NamedTuple):
    """A message of a stream. kind: "message", "reset", or "comment", which has an id in a tenant's stream."""

    kind: str
    id: str = ""
    data: Any = None

    @property
    def state(self):
        return self.data["state"]


@contextmanager
def stream(client, path, *, last_id=None, seconds=None, **params):
    """The messages of a stream, which ends after so many seconds of a quiet machine."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    params["wait"] = LONG * busyness() if seconds is None else seconds
    with client.stream("GET", path, params=params, headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield told(response.iter_lines())


def told(lines):
    fields = {}
    for line in lines:
        if line.startswith(":"):
            yield Told("comment")
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "data" in fields:
                yield Told(fields.get("event", "message"), fields["id"], json.loads(fields["data"]))
            elif "id" in fields:
                yield Told("comment", fields["id"])
            fields = {}


def until(messages, wanted):
    """The messages up to the first that is wanted. Fails where the stream ends before."""
    found = []
    for message in messages:
        found.append(message)
        if message.kind != "comment" and wanted(message):
            return found
    raise AssertionError(f"the stream ended, after {found}")


def until_state(messages, run_id, state):
    return until(messages, lambda one: one.kind == "message" and one.data["id"] == run_id and one.state == state)


def runs_in(messages):
    """The states of each run, in the order in which they were told."""
    found = {}
    for message in messages:
        if message.kind == "message":
            found.setdefault(message.data["id"], []).append(message.state)
    return found
