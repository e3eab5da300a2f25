"""Names in `.env` files that are no settings are pointed out; in the environment they are refused."""

import json
import re

import pytest
import structlog

from cgk_tasks.config import get_settings, misspelt_in_files, use_settings
from cgk_tasks.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CGK_DATABASE_URL", "CGK_BROKER_URL"):  # of the servers that other tests of this process use
        monkeypatch.delenv(name, raising=False)
    use_settings(None)
    yield tmp_path
    use_settings(None)


def test_a_misspelt_name_is_found_with_its_file_and_the_nearest_setting(folder):
    (folder / ".env.local").write_text("CGK_DATABSE_URL=postgresql://u:secret@h/d\nOTHER=1\n")
    (folder / ".env").write_text("export cgk_qeues=a,b\n")
    assert misspelt_in_files() == [
        "cgk_qeues in .env is not a setting, and is ignored. Did you mean CGK_QUEUES?",
        "CGK_DATABSE_URL in .env.local is not a setting, and is ignored. Did you mean CGK_DATABASE_URL?",
    ]


def test_names_that_are_settings_are_not(folder):
    (folder / ".env").write_text("CGK_PROVIDER=local\ncgk_job_modules=shop\nCGK_DATABASE_URL=\nJOBS_PROVIDER=local\n")
    assert misspelt_in_files() == []


def test_reading_the_settings_warns_once_without_the_value(folder):
    (folder / ".env.local").write_text("CGK_DATABSE_URL=postgresql://u:secret@h/d\n")
    with structlog.testing.capture_logs() as logged:
        get_settings()
        get_settings()
    assert [(line["event"], line["log_level"]) for line in logged] == [("setting_unknown", "warning")]
    assert "secret" not in str(logged)


def test_in_the_environment_it_is_an_error(folder, monkeypatch):
    monkeypatch.setenv("CGK_DATABSE_URL", "x")
    with pytest.raises(ConfigurationError, match="Did you mean CGK_DATABASE_URL"):
        get_settings()


def test_what_kubernetes_says_of_a_service_with_such_a_name_is_none(folder, monkeypatch):
    link = {
        "CGK_DASHBOARD_SERVICE_HOST": "10.0.0.7", "CGK_DASHBOARD_SERVICE_PORT": "80",
        "CGK_DASHBOARD_SERVICE_PORT_HTTP": "80", "CGK_DASHBOARD_PORT": "tcp://10.0.0.7:80",
        "CGK_DASHBOARD_PORT_80_TCP": "tcp://10.0.0.7:80", "CGK_DASHBOARD_PORT_80_TCP_PROTO": "tcp",
        "CGK_DASHBOARD_PORT_80_TCP_PORT": "80", "CGK_DASHBOARD_PORT_80_TCP_ADDR": "10.0.0.7",
    }  # fmt: skip
    for name, value in link.items():
        monkeypatch.setenv(name, value)
    get_settings()


def test_a_port_that_is_misspelt_still_is(folder, monkeypatch):
    monkeypatch.setenv("CGK_METRIC_PORT", "9809")
    with pytest.raises(ConfigurationError, match="Did you mean CGK_METRICS_PORT"):
        get_settings()


WINDOWS = "CGK_DEFAULT_QUEUE=mail\r\nCGK_QUEUES=a,b\r\n"


@pytest.mark.parametrize("name", [".env", ".env.local"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_read(folder, monkeypatch, name, encoding):
    monkeypatch.delenv("CGK_DEFAULT_QUEUE", raising=False)
    (folder / name).write_bytes(WINDOWS.encode(encoding))
    settings = get_settings()
    assert (settings.default_queue, settings.queues) == ("mail", ("a", "b"))
    assert misspelt_in_files() == []


@pytest.mark.parametrize("name", [".env", ".env.local"])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("CGK_DEFAULT_QUEUE=caf\u00e9".encode("cp1252"), "byte 22 is not"),
        (WINDOWS.encode("utf-16"), "it looks like UTF-16"),
        (WINDOWS.encode("utf-16-le"), "it looks like UTF-16"),
        (WINDOWS.encode("utf-16-be"), "it looks like UTF-16"),
    ],
    ids=["cp1252", "utf-16", "utf-16-le", "utf-16-be"],
)
def test_a_file_that_is_not_utf_8_is_an_error_that_names_it_and_says_how_to_save_it(folder, name, data, why):
    (folder / name).write_bytes(data)
    with pytest.raises(ConfigurationError, match=rf"^{re.escape(name)} is not UTF-8: {why}.*with the encoding UTF-8"):
        get_settings()


def test_private_servers_are_not_asked_for_where_none_run(folder):
    assert get_settings().database_url is None


def test_a_note_of_servers_whose_owner_is_dead_is_not_followed(folder):
    (folder / ".cgk").mkdir()
    note = {
        "owner_pid": 2**22 + 1, "owner_started_at": 0.0, "home": None, "socket_folder": None, "redis": True,
        "data_folders": [], "remove": [], "database_url": "postgresql://h/d", "broker_url": None, "pids": {"Redis": 1},
    }  # fmt: skip
    (folder / ".cgk/services.json").write_text(json.dumps(note))
    assert get_settings().database_url is None
