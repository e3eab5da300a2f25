"""A variable `NAME_FILE` names a file whose content is the value of the setting."""

import re

import pytest

from cgk_tasks.config import get_settings, misspelt_in_files, use_settings
from cgk_tasks.errors import ConfigurationError

URL = "postgresql://app:s3cret%40word@db/app"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CGK_DATABASE_URL", "CGK_BROKER_URL", "JOBS_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    use_settings(None)
    yield tmp_path
    use_settings(None)


@pytest.fixture
def secret(folder):
    path = folder / "database-url"
    path.write_text(f"{URL}\n")
    return path


def test_the_content_of_the_file_is_the_value_without_the_end_of_its_line(secret, monkeypatch):
    monkeypatch.setenv("CGK_DATABASE_URL_FILE", str(secret))
    assert get_settings().database == URL


@pytest.mark.parametrize("content", [URL, f"{URL}\r\n", f"\ufeff{URL}\n"], ids=["bare", "windows", "byte order mark"])
def test_how_the_file_was_saved_makes_no_difference(folder, monkeypatch, content):
    (folder / "url").write_bytes(content.encode())
    monkeypatch.setenv("CGK_DATABASE_URL_FILE", "url")
    assert get_settings().database == URL


def test_a_setting_with_names_of_others_is_read_from_a_file_by_each_of_them(folder, monkeypatch):
    (folder / "key").write_text("tr_prod_1\n")
    monkeypatch.setenv("TRIGGER_SECRET_KEY_FILE", "key")
    key = get_settings().trigger_secret_key
    assert key is not None
    assert key.get_secret_value() == "tr_prod_1"


def test_an_env_file_may_name_the_file_too(secret):
    (secret.parent / ".env.local").write_text(f"CGK_DATABASE_URL_FILE={secret}\n")
    assert get_settings().database == URL
    assert misspelt_in_files() == []


def test_what_the_environment_has_comes_before_a_file_that_an_env_file_names(secret, monkeypatch):
    (secret.parent / ".env").write_text(f"CGK_DATABASE_URL_FILE={secret}\n")
    monkeypatch.setenv("CGK_DATABASE_URL", "postgresql://h/other")
    assert get_settings().database == "postgresql://h/other"


def test_a_value_and_a_file_in_the_same_place_are_an_error_that_quotes_neither(secret, monkeypatch):
    monkeypatch.setenv("CGK_DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("CGK_DATABASE_URL", "postgresql://h/s3cret")
    with pytest.raises(ConfigurationError, match="CGK_DATABASE_URL and CGK_DATABASE_URL_FILE are both set") as caught:
        get_settings()
    assert "s3cret" not in str(caught.value)


def test_an_empty_value_beside_a_file_counts_as_none(secret, monkeypatch):
    monkeypatch.setenv("CGK_DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("CGK_DATABASE_URL", "")
    assert get_settings().database == URL


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "cannot be read: No such file or directory"), (b"\n", "is empty"), (b"\xff\xfe\x00", "is not UTF-8")],
    ids=["missing", "empty", "not text"],
)
def test_a_file_that_gives_no_value_is_an_error_that_names_the_variable_and_the_file(folder, monkeypatch, content, why):
    path = folder / "url"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("CGK_DATABASE_URL_FILE", str(path))
    with pytest.raises(ConfigurationError, match=rf"^CGK_DATABASE_URL_FILE names {re.escape(str(path))}, which {why}"):
        get_settings()


def test_a_folder_is_no_file(folder, monkeypatch):
    monkeypatch.setenv("CGK_BROKER_URL_FILE", str(folder))
    with pytest.raises(ConfigurationError, match="which cannot be read: Is a directory"):
        get_settings()


def test_a_value_of_a_file_that_does_not_fit_is_refused_as_any_other(folder, monkeypatch):
    (folder / "days").write_text("many")
    monkeypatch.setenv("CGK_HISTORY_DAYS_FILE", "days")
    with pytest.raises(ConfigurationError, match="CGK_HISTORY_DAYS"):
        get_settings()


def test_a_misspelt_name_of_a_file_is_an_error_with_the_nearest(folder, monkeypatch):
    monkeypatch.setenv("CGK_DATABSE_URL_FILE", "url")
    with pytest.raises(ConfigurationError, match="Did you mean CGK_DATABASE_URL_FILE"):
        get_settings()


def test_a_setting_that_is_itself_a_file_stays_what_it_is(folder, monkeypatch):
    monkeypatch.setenv("CGK_DASHBOARD_USERS_FILE", "users.json")
    assert get_settings().dashboard_users_file.name == "users.json"
