"""Stand-ins for Trigger.dev and Inngest on loopback: they take the documented requests, strictly, and run the jobs.

Behind each is a local provider of ours, so the jobs of the conformance suite run, and what a client sees of them has
gone through the wire format both ways. They stand for the form of the APIs, not for how those systems behave.
"""

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from cgk_tasks import create_job_client
from cgk_tasks.jobs.registry import jobs_for

TRIGGER_KEY = "tr_dev_0123456789abcdef"
EVENT_KEY = "event-key-0123456789"
SIGNING_KEY = "signkey-test-0123456789abcdef0123456789abcdef"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Refused(Exception):
    """The request is answered with this status and body."""

    def __init__(self, status, body):
        super().__init__(status, body)
        self.status, self.body = status, body


def demand(condition, status, error):
    if not condition:
        raise Refused(status, {"error": error})


class HostedServer:
    """`requests`: what came, as (method, path, headers, JSON). `faults`: a function for each of the next requests,
    called with the handler instead of the system; None lets the request through.
    """

    def __init__(self):
        self.engine = create_job_client("local")
        self.requests = []
        self.faults: list[Callable[[BaseHTTPRequestHandler], None] | None] = []
        self.over = threading.Event()
        self.lock = threading.Lock()
        system = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                found = json.loads(body) if body else None
                with system.lock:
                    system.requests.append((self.command, self.path, headers, found))
                    fault = system.faults.pop(0) if system.faults else None
                if fault is not None:
                    fault(self)
                    return
                try:
                    status, answer = 200, system.answer(self.command, urlsplit(self.path), headers, found)
                except Refused as exc:
                    status, answer = exc.status, exc.body
                respond(self, status, json.dumps(answer))

            do_GET = do_DELETE = do_POST

            def log_message(self, *_arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A client that went away is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, method, url, headers, body):
        raise NotImplementedError

    def paths(self):
        return [path for _method, path, _headers, _body in self.requests]

    def bodies(self):
        return [body for _method, _path, _headers, body in self.requests]

    def stall(self, handler):
        """Never answer."""
        self.over.wait(60)
        handler.close_connection = True

    def close(self):
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self.engine.close()


def respond(handler, status, text="{}", **headers):
    handler.send_response(status)
    handler.send_header("Content-Type", headers.pop("content_type", "application/json"))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(text.encode())))
    handler.end_headers()
    handler.wfile.write(text.encode())


def failing(status, text="{}", **headers):
    """A fault: this answer."""
    return lambda handler: respond(handler, status, text, **headers)


def disconnecting(handler):
    """A fault: the connection is closed without an answer."""
    handler.close_connection = True


def after_work(server, method, path, fault):
    """A fault: the request is carried out, and its answer is lost."""

    def lose(handler):
        _method, _path, headers, body = server.requests[-1]
        server.answer(method, urlsplit(path), headers, body)
        fault(handler)

    return lose


class TriggerDev(HostedServer):
    """Its REST API, version 3: triggers, batches, runs."""

    OPTIONS = {
        "tags", "idempotencyKey", "idempotencyKeyTTL", "concurrencyKey", "delay", "ttl", "maxAttempts", "queue",
    }  # fmt: skip
    STATES = {
        "scheduled": "DELAYED", "pending": "QUEUED", "running": "EXECUTING", "retrying": "REATTEMPTING",
        "completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELED", "expired": "EXPIRED",
        "unhandled": "PENDING_VERSION",
    }  # fmt: skip

    def __init__(self):
        super().__init__()
        self.runs = {}  # id -> (our run's id, options)
        self.keys = {}

    def answer(self, method, url, headers, body):
        demand(headers.get("authorization") == f"Bearer {TRIGGER_KEY}", 401, "Invalid or Missing API key")
        if method == "POST" and (found := re.fullmatch(r"/api/v1/tasks/([^/]+)/trigger", url.path)):
            return self.trigger(unquote(found[1]), body)
        if method == "POST" and url.path == "/api/v1/tasks/batch":
            demand(0 < len(body["items"]) <= 500, 400, "Batch size is too large. Maximum allowed batch size is 500.")
            demand(len(json.dumps(body)) <= 1_000_000, 413, "Request body too large")
            runs = [self.trigger(item["task"], item) for item in body["items"]]
            return {"id": f"batch_{secrets.token_hex(8)}", "isCached": False, "runs": runs}
        if method == "GET" and url.path == "/api/v1/runs":
            return {"data": [], "pagination": {}}
        found = re.fullmatch(r"/api/v(\d)/runs/(run_\w+)(/\w+)?", url.path)
        demand(found, 404, "Not found")
        demand(found[2] in self.runs, 404, "Run not found")
        run_id, options = self.runs[found[2]]
        match method, found[1], found[3]:
            case "GET", "3", None:
                return self.record(found[2], run_id, options)
            case "POST", "2", "/cancel":
                self.engine.cancel(run_id)
                return {"id": found[2]}
            case "POST", "1", "/replay":
                return {"id": self.add(self.engine.retry(run_id).id, {**options, "idempotencyKey": None})}
        raise Refused(405, {"error": "Method not allowed"})

    def trigger(self, task, body):
        options = body["options"]
        demand(set(body) - {"task"} == {"payload", "options"}, 400, "Unrecognized key")
        demand(set(options) <= self.OPTIONS, 400, "Unrecognized option")
        demand(all(isinstance(tag, str) and len(tag) <= 128 for tag in options["tags"]), 400, "Tags must be strings")
        demand(re.fullmatch(r"\d+[smhd]", options.get("idempotencyKeyTTL", "1s")), 400, "Invalid idempotencyKeyTTL")
        demand(isinstance(options.get("ttl", 1), int) and options.get("ttl", 1) > 0, 400, "Invalid ttl")
        key = (task, options.get("idempotencyKey"))
        if key[1] and key in self.keys:
            return {"id": self.keys[key], "taskIdentifier": task, "isCached": True}
        delay = options.get("delay")
        ours = {"run_at": datetime.fromisoformat(delay)} if delay else {}
        if "ttl" in options:  # counts from when the run is due
            ours["expires"] = (
                max(0.0, (ours["run_at"] - datetime.now(UTC)).total_seconds() if delay else 0) + options["ttl"]
            )
        if "maxAttempts" in options:
            ours["max_attempts"] = options["maxAttempts"]
        run_id = self.add(self.engine.send(task, body["payload"], **ours).id, options)
        if key[1]:
            self.keys[key] = run_id
        return {"id": run_id, "taskIdentifier": task, "isCached": False}

    def add(self, ours, options):
        run_id = f"run_{secrets.token_hex(12)}"
        self.runs[run_id] = (ours, options)
        return run_id

    def record(self, run_id, ours, options):
        status = self.engine.get_run_status(ours)
        record = {
            "id": run_id, "status": self.STATES[status.state], "taskIdentifier": status.event, "tags": options["tags"],
            "idempotencyKey": options["idempotencyKey"], "payload": status.payload, "attemptCount": status.attempt,
            "isTest": False, "createdAt": _iso(status.created_at), "updatedAt": _iso(datetime.now(UTC)),
            "startedAt": _iso(status.started_at), "finishedAt": _iso(status.closed_at), "attempts": [],
            "delayedUntil": options.get("delay"), "relatedRuns": {},
        }  # fmt: skip
        if status.state == "completed":
            record["output"] = status.result
        if status.state == "failed":
            code = status.error["code"]
            name = status.error["type"] if code == "UNKNOWN_ERROR" else code
            record["error"] = {
                "message": status.error["message"], "name": name, "stackTrace": status.error["traceback"],
            }  # fmt: skip
        return {name: value for name, value in record.items() if value is not None}


class Inngest(HostedServer):
    """Its event API, and version 1 of its REST API, with its cache of 15 seconds."""

    STATES = {
        "scheduled": "Scheduled", "pending": "Scheduled", "running": "Running", "retrying": "Running",
        "completed": "Completed", "failed": "Failed", "cancelled": "Cancelled",
    }  # fmt: skip

    def __init__(self):
        super().__init__()
        self.events = {}  # id -> (event, our runs' ids)
        self.known = {}
        self.cache = {}

    def answer(self, method, url, headers, body):
        if found := re.fullmatch(r"/e/([^/]+)", url.path):
            demand(method == "POST", 405, "Method not allowed")
            return self.receive(unquote(found[1]), headers, body)
        demand(headers.get("authorization") == f"Bearer {SIGNING_KEY}", 401, "Authentication failed")
        cached = self.cache.get(f"{url.path}?{url.query}", (0, None))
        if method == "GET" and cached[0] > time.monotonic():
            return cached[1]
        try:
            answer = {"data": self.data(method, url), "metadata": {"fetched_at": _iso(datetime.now(UTC))}}
        except Refused as exc:
            if method != "GET":
                raise
            # Its cache loses the status: a real server answers 200 to a GET that fails.
            return {"error": exc.body["error"], "data": None, "status": exc.status}
        if method == "GET":
            self.cache[f"{url.path}?{url.query}"] = (time.monotonic() + 15, answer)
        return answer

    def data(self, method, url):
        if url.path == "/v1/events":
            demand(int(parse_qs(url.query)["limit"][0]) > 0, 400, "Invalid limit")
            return []
        found = re.fullmatch(r"/v1/(events|runs)/([0-9A-Z]{26})(/runs)?", url.path)
        demand(found, 404, "Not found")
        if found[1] == "runs":
            demand(method == "DELETE", 405, "Method not allowed")
            ours = next(ours for _event, runs in self.events.values() for one, ours in runs if one == found[2])
            return self.engine.cancel(ours) and None
        demand(method == "GET", 405, "Method not allowed")
        demand(found[2] in self.events, 404, "Event not found")
        event, runs = self.events[found[2]]
        if found[3] is None:
            return {"internal_id": found[2], **event, "received_at": _iso(event["received_at"])}
        return [self.record(one, ours, found[2]) for one, ours in runs]

    def receive(self, key, headers, body):
        demand(key == EVENT_KEY, 401, "Event key not found")
        demand(isinstance(body, list) and len(body) <= 5000, 400, "Cannot have more than 5000 events in a batch")
        millis, _, entropy = headers["x-inngest-event-id-seed"].partition(",")
        ids = []
        for position, event in enumerate(body):
            if not set(event) <= {"id", "name", "data", "ts"} or not isinstance(event["data"], dict):
                raise Refused(400, {"ids": ids, "status": 400, "error": "unknown field in event"})
            # As Inngest: refused when it is reached; what came before has been accepted.
            if event["data"].get("argument") == "refuse this one":
                raise Refused(400, {"ids": ids, "status": 400, "error": "Event is over the max size"})
            ids.append(self.accept(event, f"{millis}{entropy}{position}"))
        return {"ids": ids, "status": 200}

    def accept(self, event, seed):
        event_id = "01" + "".join(_CROCKFORD[byte % 32] for byte in _digest(seed))
        runs, received_at = [], datetime.now(UTC)
        if event["id"] not in self.known:  # else the event is stored, and starts nothing
            self.known[event["id"]] = event_id
            later = {"run_at": datetime.fromtimestamp(event["ts"] / 1000, UTC)} if "ts" in event else {}
            if jobs_for(event["name"]):
                ours = self.engine.send(event["name"], event["data"], **later).id
                runs.append(("01" + "".join(_CROCKFORD[byte % 32] for byte in _digest(ours)), ours))
        if event_id not in self.events:
            self.events[event_id] = ({**event, "received_at": received_at}, runs)
        return event_id

    def record(self, run_id, ours, event_id):
        status = self.engine.get_run_status(ours)
        record = {
            "run_id": run_id, "run_started_at": _iso(status.started_at or status.created_at),
            "function_id": "5b2e7d0a-0c34-4f2a-8d2a-000000000001", "function_version": 1, "event_id": event_id,
            "status": self.STATES[status.state], "ended_at": _iso(status.closed_at),
        }  # fmt: skip
        if status.state == "completed":
            record["output"] = status.result
        if status.state == "failed":
            code = status.error["code"]
            name = status.error["type"] if code == "UNKNOWN_ERROR" else code
            record["output"] = {"name": name, "message": status.error["message"], "stack": status.error["traceback"]}
        return record


def _digest(text):
    return hashlib.sha256(text.encode()).digest()[:24]


def _iso(time):
    return None if time is None else time.isoformat().replace("+00:00", "Z")


@contextmanager
def hosted_server(kind):
    """A running stand-in: `kind` is TriggerDev or Inngest."""
    server = kind()
    try:
        yield server
    finally:
        server.close()


def settings_of(server):
    """The variables with which a client uses the stand-in."""
    if isinstance(server, TriggerDev):
        return {"JOBS_PROVIDER": "trigger.dev", "TRIGGER_SECRET_KEY": TRIGGER_KEY, "TRIGGER_API_URL": server.url}
    return {
        "JOBS_PROVIDER": "inngest", "INNGEST_EVENT_KEY": EVENT_KEY, "INNGEST_SIGNING_KEY": SIGNING_KEY,
        "INNGEST_BASE_URL": server.url,
    }  # fmt: skip
