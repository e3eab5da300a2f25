"""Sessions end at the server: with the logout, a new password or role, and when the user is removed."""

import pytest
import requests

from cgk_tasks.dashboard.access.passwords import needs_rehash
from cgk_tasks.dashboard.access.users import find_account, remove_user, save_user, set_password, set_role
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.dashboard_support import PASSWORDS, scrypt


@pytest.fixture
def browser(dashboard):
    """Logged in as a user of its own."""
    save_user("temp", "viewer", "temporary-one")
    browser = dashboard.browser()
    browser.submit(browser.open("/login"), "/login", name="Temp", password="temporary-one")
    assert browser.open("/runs", allow_redirects=False).status_code == 200
    return browser


def is_logged_in(browser):
    return browser.open("/runs", allow_redirects=False).status_code == 200


def test_a_cookie_that_was_stolen_is_worth_nothing_after_the_logout(browser):
    stolen = dict(browser.cookies)
    assert "Logged out" in browser.submit(browser.open("/logout"), "/logout").text
    assert not is_logged_in(browser)
    answer = requests.get(f"{browser.base}/runs", cookies=stolen, allow_redirects=False, timeout=30)
    assert answer.status_code == 401


def test_a_logout_ends_no_other_session(browser, dashboard):
    other = dashboard.browser()
    other.submit(other.open("/login"), "/login", name="temp", password="temporary-one")
    browser.submit(browser.open("/logout"), "/logout")
    assert is_logged_in(other)


@pytest.mark.parametrize("change", [
    lambda: remove_user("temp"), lambda: set_role("temp", "operator"), lambda: set_password("temp", "temporary-two"),
    lambda: save_user("temp", "viewer", "temporary-one"),
], ids=["removed", "role", "password", "added again"])  # fmt: skip
def test_a_change_of_the_user_ends_the_sessions(browser, change):
    change()
    assert not is_logged_in(browser)


def test_a_removed_user_who_comes_back_has_no_session(browser):
    remove_user("temp")
    save_user("temp", "viewer", "temporary-one")
    assert not is_logged_in(browser)


def test_a_session_expires(browser):
    with autocommit() as connection:
        connection.execute("UPDATE cgk.dashboard_sessions SET expires_at = now() WHERE user_name = 'temp'")
    assert not is_logged_in(browser)


def test_a_session_resumes_at_another_dashboard(browser, start_dashboard):
    """Behind a load balancer, or after a restart: nothing of it is in the memory of the process."""
    answer = requests.get(f"{start_dashboard().url}/runs", cookies=dict(browser.cookies), timeout=30)
    assert answer.status_code == 200


def test_a_password_that_is_no_longer_right_is_not_remembered(dashboard):
    save_user("robot", "viewer", "first-password")

    def ask(password):
        return requests.get(f"{dashboard.url}/metrics", auth=("robot", password), timeout=30).status_code

    assert [ask("first-password"), ask("first-password")] == [200, 200]
    set_password("robot", "second-password")
    assert [ask("first-password"), ask("second-password")] == [401, 200]


def test_an_old_hash_is_renewed_at_the_next_login_which_ends_no_session(dashboard):
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.dashboard_users (name, role, password_hash) VALUES ('old', 'viewer', %s)",
            [scrypt("old-password-1")],
        )
    browsers = [dashboard.browser(), dashboard.browser()]
    for browser in browsers:
        browser.submit(browser.open("/login"), "/login", name="old", password="old-password-1")
    assert not needs_rehash(find_account("old").password_hash)
    assert all(is_logged_in(browser) for browser in browsers)


def test_the_users_table_missing_is_said_before_the_login(dashboard):
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.dashboard_users RENAME TO users_away")
    try:
        answer = requests.get(f"{dashboard.url}/tasks", auth=("ada", PASSWORDS["ada"]), timeout=30)
        page = dashboard.browser().open("/login")
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.users_away RENAME TO dashboard_users")
    assert (answer.status_code, "cgk-tasks migrate" in answer.text) == (503, True)
    assert (page.status_code, "relation" in page.text) == (503, False)


class TestWithDeprecatedSettings:
    def test_users_of_the_old_file_still_log_in_and_the_log_says_what_to_run(self, start_dashboard, tmp_path):
        path = tmp_path / "users.json"
        entry = f'{{"name": "eve", "role": "operator", "password": "{scrypt("eve-password")}"}}'
        path.write_text(f'{{"users": [{entry}]}}')
        dashboard = start_dashboard(CGK_DASHBOARD_USERS_FILE=str(path))
        browser = dashboard.browser()
        browser.submit(browser.open("/login"), "/login", name="eve", password="eve-password")
        assert "eve <small>(operator)" in browser.open("/runs").text
        assert f"cgk-tasks dashboard user import {path}" in dashboard.log
        path.write_text(f'{{"users": [{entry.replace("operator", "admin")}]}}')
        assert not is_logged_in(browser)

    def test_flowers_own_passwords_have_the_roles_of_old_rules_after_those_of_the_users(self, start_dashboard):
        save_user("bo", "operator", None)
        dashboard = start_dashboard(
            options=("--port=0", "--basic_auth=max:pw1,bo:pw2,eve:pw3"), CGK_DASHBOARD_ROLES="max=admin,bo=admin"
        )
        pages = {
            name: requests.get(f"{dashboard.url}/runs", auth=(name, pw), timeout=30).text
            for name, pw in (("max", "pw1"), ("bo", "pw2"), ("eve", "pw3"))
        }
        assert "max <small>(admin)" in pages["max"]
        assert "bo <small>(operator)" in pages["bo"]
        assert "eve <small>(viewer)" in pages["eve"]
        assert "cgk-tasks dashboard user add 'max' --role admin --no-password" in dashboard.log


def test_without_users_the_login_says_how_to_make_one(start_dashboard, database):
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.dashboard_users RENAME TO users_away")
        connection.execute("CREATE TABLE cgk.dashboard_users (LIKE cgk.users_away INCLUDING ALL)")
    try:
        dashboard = start_dashboard()
        text = dashboard.browser().open("/runs").text
    finally:
        with autocommit() as connection:
            connection.execute("DROP TABLE cgk.dashboard_users")
            connection.execute("ALTER TABLE cgk.users_away RENAME TO dashboard_users")
    assert "cgk-tasks dashboard user add NAME --role admin" in text
    assert "password" not in dashboard.log
