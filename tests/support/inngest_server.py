"""A real Inngest server of one's own, where the program `inngest` is installed, with an app that runs in this process.

npm's package inngest-cli has the program. It keeps its record in our PostgreSQL and listens on loopback alone.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg

from tests.support.waiting import wait_until

EVENT_KEY = "event-key-0123456789"
SIGNING_KEY = "signkey-test-0123456789abcdef0123456789abcdef"
_HEX_KEY = SIGNING_KEY.rpartition("-")[2]


def find_inngest():
    """The program, or None."""
    return shutil.which("inngest")


@contextmanager
def inngest_server(database_url, folder: Path):
    """The URL of a server whose app has functions for the conformance suite's events `act` and `two`."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS inngest_tests")
        connection.execute("CREATE DATABASE inngest_tests")
    uri = database_url.replace("/cgk?", "/inngest_tests?") + "&sslmode=disable"
    url = f"http://127.0.0.1:{_free_port()}"
    with ExitStack() as stack:
        app_port = stack.enter_context(_app(url))
        log = stack.enter_context((folder / "inngest.log").open("w"))
        command = [
            find_inngest(), "start", "--host", "127.0.0.1", "--port", url.rpartition(":")[2], "--postgres-uri", uri,
            "--signing-key", _HEX_KEY, "--event-key", EVENT_KEY, "--no-ui", "--poll-interval", "1",
            "--sdk-url", f"http://127.0.0.1:{app_port}/api/inngest", "--connect-gateway-port", str(_free_port()),
            "--connect-gateway-grpc-port", str(_free_port()), "--connect-executor-grpc-port", str(_free_port()),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "DO_NOT_TRACK": "1", "INNGEST_NO_UPDATE_NOTIFIER": "1"},
        )  # fmt: skip
        try:
            wait_until(lambda: process.poll() is not None or _answers(f"{url}/health"), 60, "Inngest answers")
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _free_port():
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.status == 200
    except OSError:
        return False


@contextmanager
def _app(url):
    """Functions by Inngest's own SDK, served from a thread."""
    import inngest
    import inngest.tornado
    from tornado.httpserver import HTTPServer
    from tornado.web import Application

    client = inngest.Inngest(
        app_id="shop", api_base_url=url, event_api_base_url=url, event_key=EVENT_KEY, signing_key=SIGNING_KEY,
        is_production=True,
    )  # fmt: skip

    @client.create_function(fn_id="act", trigger=inngest.TriggerEvent(event="conformance.act"), retries=0)
    def act(ctx):
        data = ctx.event.data
        if data["action"] == "fail":
            raise inngest.NonRetriableError(data["argument"])
        if data["action"] == "sleep":
            ctx.step.sleep("pause", 60_000)
        if data["action"] == "count":
            with Path(data["argument"]).open("a") as file:
                file.write("ran\n")
        return {"data": data["argument"]} if data["action"] == "data" else data["argument"]

    @client.create_function(fn_id="first", trigger=inngest.TriggerEvent(event="conformance.two"), retries=0)
    def first(ctx):
        return "first"

    @client.create_function(fn_id="second", trigger=inngest.TriggerEvent(event="conformance.two"), retries=0)
    def second(ctx):
        if ctx.event.data["secondFails"]:
            raise inngest.NonRetriableError("second")
        return "second"

    ready, port = threading.Event(), []

    async def serve():
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        application = Application()
        inngest.tornado.serve(application, client, [act, first, second])
        server = HTTPServer(application)
        server.listen(0, "127.0.0.1")
        port.append(next(iter(server._sockets.values())).getsockname()[1])
        port.append(lambda: loop.call_soon_threadsafe(stop.set))
        ready.set()
        await stop.wait()
        server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield port[0]
    finally:
        port[1]()
        thread.join(10)


def wait_registered(client):
    """Until the server has read the functions of the app: it asks each second."""
    from tests.conformance.jobs import Act

    give_up = time.monotonic() + 30
    while not client.trigger_and_wait(Act(tenant_id="acme", action="echo"), timeout=2.0).success:
        assert time.monotonic() < give_up, "Inngest did not read the app"
