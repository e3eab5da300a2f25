"""Addresses and ports in settings."""

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.config import Settings, get_settings
from cgk_tasks.config.addresses import host_and_port, is_loopback
from cgk_tasks.errors import ConfigurationError


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("127.0.0.1:9808", ("127.0.0.1", 9808)),
        (":9808", ("127.0.0.1", 9808)),
        ("[::1]:9808", ("::1", 9808)),
        ("metrics.example.com:1", ("metrics.example.com", 1)),
    ],
)
def test_an_address_and_a_port_are_read(value, found):
    assert host_and_port("CGK_EXPORTER", value) == found


@pytest.mark.parametrize("value", ["", "nowhere", "9808", "h:", "h:65536", "h:-1", "::1:9808", "[h]:1", "h:x"])
def test_anything_else_is_refused_with_the_name_of_the_setting(value):
    with pytest.raises(ConfigurationError, match=r"CGK_EXPORTER is .*like 127\.0\.0\.1:9808"):
        host_and_port("CGK_EXPORTER", value)


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_every_ip_address_is_read_as_urls_write_it(address, port):
    text = f"[{address}]" if address.version == 6 else str(address)
    assert host_and_port("CGK_EXPORTER", f"{text}:{port}") == (str(address), port)


@pytest.mark.parametrize(
    ("given_settings", "served_on"),
    [
        ({}, None),
        ({"metrics_address": "0.0.0.0:9809"}, ("0.0.0.0", 9809)),
        ({"metrics_port": 9809}, ("127.0.0.1", 9809)),
        ({"metrics_address": "0.0.0.0", "metrics_port": 9809}, ("0.0.0.0", 9809)),
        ({"metrics_address": "0.0.0.0"}, None),
    ],
)
def test_a_workers_metrics_are_served_where_either_spelling_says(given_settings, served_on):
    assert Settings(_env_file=None, **given_settings).metrics_served_on == served_on


def test_the_old_spelling_is_pointed_out_with_the_new_one(setting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    setting(CGK_METRICS_PORT="9809")
    with structlog.testing.capture_logs() as logged:
        get_settings()
    assert [line["hint"] for line in logged if line["event"] == "setting_deprecated"] == [
        "Write CGK_METRICS_ADDRESS=127.0.0.1:9809 instead of CGK_METRICS_PORT."
    ]


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("Localhost.", True),
     ("0.0.0.0", False), ("10.0.0.1", False), ("redis", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_loopback_is_what_no_other_machine_reaches(host, is_ours):
    assert is_loopback(host) == is_ours
