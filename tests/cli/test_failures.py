"""How errors are shown."""

import pytest

from cgk_tasks.cli.failures import known, report
from cgk_tasks.errors import ConfigurationError, StoreError, UnknownTenantError

NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/nothing"


@pytest.fixture
def no_database(environment, setting):
    setting(CGK_DATABASE_URL=NOWHERE)


def test_an_error_is_what_happened_and_a_hint_what_to_do(capsys):
    report(UnknownTenantError("acmee", "acme"))
    assert capsys.readouterr().err.splitlines() == [
        'error: There is no tenant "acmee".',
        'hint:  Did you mean "acme"? To register it, run: cgk-tasks tenants add acmee',
    ]


def test_a_text_of_several_sentences_is_not_taken_for_a_hint(capsys):
    report(ConfigurationError("It is wrong. See line 3."))
    assert capsys.readouterr().err == "error: It is wrong. See line 3.\n"


def test_an_error_goes_to_stderr_without_a_traceback(cgk, no_database):
    outcome = cgk("tenants", "list", "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error: PostgreSQL refused or cannot be reached")
    assert "hint:  Check it with: cgk-tasks doctor" in outcome.err
    assert "Traceback" not in outcome.err


def test_verbose_adds_the_traceback(cgk, no_database):
    assert "Traceback" in cgk("--verbose", "tenants", "list").err


def test_the_variable_cgk_traceback_adds_the_traceback(cgk, no_database, setting):
    setting(CGK_TRACEBACK="1")
    assert "Traceback" in cgk("tenants", "list").err


def test_no_error_shows_the_password(cgk, no_database):
    assert "secret" not in cgk("--verbose", "tenants", "list").err


def test_a_misspelt_variable_is_named_with_the_nearest_setting(cgk, environment, setting):
    setting(CGK_JOB_MODULE="jobs")
    outcome = cgk("tenants", "list")
    assert (outcome.code, "Did you mean CGK_JOB_MODULES?" in outcome.err) == (1, True)


def test_a_drivers_error_is_explained():
    import psycopg

    explained = known(psycopg.OperationalError("connection refused"))
    assert isinstance(explained, StoreError)


def test_a_fault_of_the_program_is_not_hidden():
    assert known(KeyError("bug")) is None


def test_without_a_database_the_error_says_how_to_get_one(cgk, environment, setting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    setting(CGK_DATABASE_URL=None, CGK_BROKER_URL=None)
    outcome = cgk("send", "system.cleanup", '{"target": "logs"}', "--tenant", "acme")
    assert (outcome.code, "cgk-tasks dev" in outcome.err) == (1, True)


def test_a_traceback_in_a_warning_has_no_local_variables(capsys):
    import structlog

    from cgk_tasks.cli.output import log_to_stderr

    log_to_stderr()
    payload = "ada.secret@example.com"
    try:
        raise KeyError(len(payload))
    except KeyError:
        structlog.get_logger().exception("failed")
    shown = capsys.readouterr().err
    assert ("KeyError: 22" in shown, payload in shown) == (True, False)
