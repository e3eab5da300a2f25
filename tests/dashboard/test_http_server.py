"""The port, and bodies that are too large."""

import http.client
import socket
from urllib.parse import urlsplit

import pytest
import requests

from tests.dashboard.dashboard_support import Dashboard
from tests.support.waiting import wait_exit

MEGABYTE = 1024 * 1024


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    "command", [("-m", "celery", "-A", "cgk_tasks", "flower"), ("-m", "cgk_tasks.cli", "dashboard")]
)
def test_a_taken_port_is_said_in_a_line_with_what_to_do(database, taken_port, tmp_path, command):
    dashboard = Dashboard(tmp_path / "log", command=command, options=(f"--port={taken_port}",))
    assert wait_exit(dashboard.process, 60) == 1
    lines = [line for line in dashboard.log.splitlines() if "cannot listen" in line]
    assert len(lines) == 1
    assert f"127.0.0.1:{taken_port}: the port is in use" in lines[0]
    assert f"--port={taken_port + 1}" in dashboard.log
    assert "Traceback" not in dashboard.log


@pytest.mark.parametrize(
    "path", ["/login", "/flower/api/task/send-task/x", "/runs", "/flower/tasks/datatable", "/nothing"]
)
def test_a_body_of_more_than_a_megabyte_is_refused_before_the_login(dashboard, path):
    answer = requests.post(f"{dashboard.url}{path}", data=b"x" * (MEGABYTE + 1), timeout=30)
    assert answer.status_code == 413
    assert "1,048,576 bytes" in answer.text


def test_so_is_one_that_does_not_say_how_long_it_is(dashboard):
    chunks = (b"x" * 65536 for _ in range(20))
    assert requests.post(f"{dashboard.url}/login", data=chunks, timeout=30).status_code == 413


def test_a_megabyte_is_read(dashboard):
    answer = requests.post(
        f"{dashboard.url}/tenants/acme/suspend", data=b"x" * MEGABYTE, auth=("nobody", "password"), timeout=30
    )
    assert answer.status_code == 401


def test_a_body_that_does_not_end_ends_the_connection(dashboard):
    address = urlsplit(dashboard.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.putrequest("POST", "/login")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
